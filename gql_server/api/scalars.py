"""The custom scalars. Compiled reads give finished JSON, so nothing is serialised here."""

import datetime
from collections.abc import Mapping
from typing import Any, NewType

import strawberry
from graphql import GraphQLError

ReasonCode = NewType("ReasonCode", str)
ModeCode = NewType("ModeCode", str)
Revision = NewType("Revision", str)
JSON = NewType("JSON", object)


def _same(value: Any) -> Any:
    return value


def _code(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 100 or "\0" in value:
        raise GraphQLError("A code is a text of 1 to 100 characters, such as EMERGENCY.")
    return value


def _revision(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise GraphQLError("A revision is what an earlier answer called one.")
    return text


SCALARS: Mapping[object, Any] = {
    ReasonCode: strawberry.scalar(
        name="ReasonCode",
        description="Code of a contact reason, such as EMERGENCY. `contactReasons` lists the codes of this district, "
        "plug-ins' own among them.",
        serialize=_same,
        parse_value=_code,
    ),
    ModeCode: strawberry.scalar(
        name="ModeCode",
        description="Code of a batch mode, such as STUDENT_CONTACTS. `batchModes` lists them, "
        "plug-ins' own among them.",
        serialize=_same,
        parse_value=_code,
    ),
    Revision: strawberry.scalar(
        name="Revision",
        description="Position in the district's history of changes; grows by one with every committed change set. "
        "Opaque to clients.",
        serialize=_same,
        parse_value=_revision,
    ),
    JSON: strawberry.scalar(name="JSON", description="Any JSON value.", serialize=_same, parse_value=_same),
    datetime.date: strawberry.scalar(
        name="Date",
        description="A day, as 2026-09-01.",
        serialize=_same,
        parse_value=datetime.date.fromisoformat,
    ),
    datetime.datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in ISO 8601, as 2026-09-01T08:30:00+00:00.",
        serialize=_same,
        parse_value=datetime.datetime.fromisoformat,
    ),
}
