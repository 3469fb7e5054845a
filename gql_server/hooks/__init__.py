"""What plug-ins are made of: `hookimpl`, and the values of `gql_server.hooks.types`."""

import pluggy

from gql_server.domain.batch import Cell, FilterKind, Setting
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.sql import Sql
from gql_server.hooks.spec import PROJECT
from gql_server.hooks.types import (
    BatchMode,
    Candidate,
    ContactReason,
    Context,
    Deny,
    FieldType,
    FilterField,
    Population,
    PreferenceChanges,
    Reader,
    Request,
    Rule,
    RunSummary,
    Scope,
    Verdict,
)

hookimpl = pluggy.HookimplMarker(PROJECT)

__all__ = [
    "BatchMode",
    "Candidate",
    "Cell",
    "ContactPointKind",
    "ContactReason",
    "Context",
    "Deny",
    "FieldType",
    "FilterField",
    "FilterKind",
    "Method",
    "Population",
    "PreferenceChanges",
    "Reader",
    "Request",
    "Rule",
    "RunSummary",
    "Scope",
    "Setting",
    "Sql",
    "Verdict",
    "hookimpl",
]
