"""The custom scalars. Only their parsing matters: compiled reads return finished JSON, so nothing is serialised."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, NewType

import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped

from gql_server.domain.dates import parse_day, start_or_end_day
from gql_server.domain.limits import CODE

ReasonCode = NewType("ReasonCode", str)
ModeCode = NewType("ModeCode", str)
Revision = NewType("Revision", str)
JSON = NewType("JSON", object)


def _unchanged(value: Any) -> Any:
    return value


def _parse_code(value: Any) -> str:
    if not isinstance(value, str) or not value or CODE.text_error(value):
        raise GraphQLError(f"A code is one line of 1 to {CODE.longest} characters, such as EMERGENCY.")
    return value


def _parse_date(value: Any) -> datetime.date:
    if not isinstance(value, str):
        raise GraphQLError("A day is a string such as 2026-09-01.")
    try:
        return start_or_end_day(parse_day(value))
    except ValueError as error:
        raise GraphQLError(str(error)) from None


def _parse_date_time(value: Any) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise GraphQLError("A moment is a string such as 2026-09-01T08:30:00+00:00.") from None
    try:
        start_or_end_day(moment.date())
    except ValueError as error:
        raise GraphQLError(str(error)) from None
    return moment


def _parse_revision(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise GraphQLError('A revision is a whole number from an earlier answer, such as "7".')
    return text


def _literal(parse: Callable[[Any], object]) -> Callable[..., object]:
    """Return the parser of literals: it parses as `parse` does, and adds the location to an error."""

    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> object:
        try:
            return parse(value_from_ast_untyped(node, variables))
        except GraphQLError as error:
            raise GraphQLError(error.message, node) from None

    return parse_literal


SCALARS: Mapping[object, Any] = {
    ReasonCode: strawberry.scalar(
        name="ReasonCode",
        description="The code of a contact reason, such as EMERGENCY. `contactReasons` lists the codes of the "
        "district, including those that plug-ins add.",
        serialize=_unchanged,
        parse_value=_parse_code,
        parse_literal=_literal(_parse_code),
    ),
    ModeCode: strawberry.scalar(
        name="ModeCode",
        description="The code of a batch mode, such as STUDENT_CONTACTS. `batchModes` lists the codes, "
        "including those that plug-ins add.",
        serialize=_unchanged,
        parse_value=_parse_code,
        parse_literal=_literal(_parse_code),
    ),
    Revision: strawberry.scalar(
        name="Revision",
        description="A position in the district's history of changes: a whole number, as a string. It grows by one "
        "with every committed change set.",
        serialize=_unchanged,
        parse_value=_parse_revision,
        parse_literal=_literal(_parse_revision),
    ),
    JSON: strawberry.scalar(
        name="JSON", description="Any JSON value.", serialize=_unchanged, parse_value=_unchanged
    ),
    datetime.date: strawberry.scalar(
        name="Date",
        description="A day in ISO 8601, such as 2026-09-01.",
        serialize=_unchanged,
        parse_value=_parse_date,
        parse_literal=_literal(_parse_date),
    ),
    datetime.datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in ISO 8601 with its offset from UTC, such as 2026-09-01T08:30:00+00:00.",
        serialize=_unchanged,
        parse_value=_parse_date_time,
        parse_literal=_literal(_parse_date_time),
    ),
}
