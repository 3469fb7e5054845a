"""The conditions of `people(filter:)`: one piece of SQL for each part of the filter that is given.

What a part tests is read through the files of `sql/graph`, as fields are: nobody learns by a filter what they may not
read (D27).
"""

from collections.abc import Mapping
from typing import Any, cast

from gql_server.api.enums import Audience
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.limits import GLOBAL_ID, LABEL, MAX_IDS, SOURCE_ID, count_error, search_words
from gql_server.domain.viewer import Role
from gql_server.errors import Forbidden, InvalidArgument
from gql_server.hooks.people import in_grades, reaches
from gql_server.reads.compiler import graph_rows
from gql_server.reads.links import PORTAL, Args, ReadContext


def _exists(table: str, condition: str) -> str:
    """Return the condition that the viewer may see such a row `r` of a graph file."""
    return f"exists (select from (\n{graph_rows(table)}\n) as r where {condition})"


def _enrolled(more: str = "") -> str:
    return _exists("enrollment", f"r.person_id = {{child}}.person_id and r.active{more}")


def _assigned(more: str = "") -> str:
    return _exists("district_assignment", f"r.person_id = {{child}}.person_id and r.active{more}")


_TO_THEM = _exists("relationship", f"r.student_id = {{child}}.person_id and {reaches('r')}")
_OF_ENROLLED = _exists("enrollment", "r.person_id = tie.student_id and r.active")
_THROUGH_THEM = (
    f"exists (select from (\n{graph_rows('relationship')}\n) as tie"
    f" where tie.contact_id = {{child}}.person_id and {reaches('tie')} and {_OF_ENROLLED})"
)
_CONDITIONS: Mapping[str, str] = {
    # Every word must be the beginning of the first or the last name.
    "search": "not exists (select from unnest(:search::text[]) as word where not ("
    "starts_with(lower({child}.first_name), word) or starts_with(lower({child}.last_name), word)))",
    "sourceId": "{child}.source_id = :source_id",
    "schoolId": f"({_enrolled(' and r.school_id = :school_id')} or {_assigned(' and r.school_id = :school_id')})",
    "grade": _enrolled(f" and {in_grades('r', 'array[:grade::text]')}"),
    # D7, D8, D9. All three are in the text: which of them is asked for is a value.
    "audience": f"case :audience when 'STUDENTS' then {_enrolled()}"
    f" when 'STUDENT_CONTACTS' then {_THROUGH_THEM} else {_assigned()} end",
    "withoutMessengerContact": f"({_enrolled()} and :without_messenger_contact::boolean = not {_TO_THEM})",
    "ids": "{child}.person_id = any(:ids::bigint[])",
}
_OF_OTHERS = ("audience", "withoutMessengerContact")
"""Parts that ask about contacts whom portal users do not see."""


def people_condition(args: Args) -> str:
    """Return the SQL for the parts of the filter that are given."""
    given = [_CONDITIONS[name] for name, value in _filter(args).items() if value is not None]
    return " and ".join(given) or "true"


def people_named(args: Args) -> bool:
    """Return whether the filter names people by their ids alone, which reads no others."""
    return [name for name, value in _filter(args).items() if value is not None] == ["ids"]


def people_params(args: Args, context: ReadContext) -> dict[str, object]:
    """Return the values of the parameters of `people_condition`. Ids that are none find nobody.

    Raises InvalidArgument for what is too long, and Forbidden where the viewer may not ask for a part (D27).
    """
    given = _filter(args)
    _hold_allowed(given, context.viewer.role)
    _hold_lengths(given)
    audience = given.get("audience")
    ids = [parse_id(IdKind.PERSON, str(id_)) for id_ in given.get("ids") or ()]
    return {
        "search": search_words(_text(given.get("search") or "")),
        "source_id": _text(given.get("sourceId")),
        "school_id": parse_id(IdKind.SCHOOL, str(given.get("schoolId"))),
        "grade": _text(given.get("grade")),
        "audience": audience.value if isinstance(audience, Audience) else None,
        "without_messenger_contact": given.get("withoutMessengerContact"),
        "ids": [number for number in ids if number is not None],
    }


def _filter(args: Args) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], args.get("filter") or {})


def _hold_lengths(given: Mapping[str, Any]) -> None:
    for name, limit in (("sourceId", SOURCE_ID), ("schoolId", GLOBAL_ID), ("grade", LABEL)):
        limit.require_search_length(str(given.get(name) or ""), name)
    if excess := count_error("ids", given.get("ids") or (), MAX_IDS):
        raise InvalidArgument(f"`ids`: {excess}")


def _text(value: Any) -> Any:
    """Return a text that PostgreSQL can hold; no name or id on record contains a NUL."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _hold_allowed(given: Mapping[str, Any], role: Role) -> None:
    asked = [name for name in _OF_OTHERS if given.get(name) is not None]
    if asked and role in PORTAL:
        names = " and ".join(f"`{name}`" for name in asked)
        raise Forbidden(f"The filter's {names} needs a token with the role ADMIN or VENDOR. Leave it out.")
