"""What plug-ins are made of: `hookimpl`, and the values of `gql_server.hooks.types`."""

import pluggy

from gql_server.domain.batch import FilterKind, Setting
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import Role
from gql_server.hooks.spec import PROJECT
from gql_server.hooks.types import (
    BatchMode,
    BatchScope,
    Candidate,
    Cell,
    ContactReason,
    Context,
    Defer,
    Deny,
    DistrictReader,
    FieldType,
    FilterField,
    Population,
    PreferenceChanges,
    Rule,
    RuleRequest,
    RunSummary,
    Verdict,
)

hookimpl = pluggy.HookimplMarker(PROJECT)

__all__ = [
    "BatchMode",
    "BatchScope",
    "Candidate",
    "Cell",
    "ContactPointKind",
    "ContactReason",
    "Context",
    "Defer",
    "Deny",
    "DistrictReader",
    "FieldType",
    "FilterField",
    "FilterKind",
    "Method",
    "Population",
    "PreferenceChanges",
    "Role",
    "Rule",
    "RuleRequest",
    "RunSummary",
    "Setting",
    "Sql",
    "Verdict",
    "hookimpl",
]
