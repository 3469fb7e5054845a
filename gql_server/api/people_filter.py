"""The conditions of `people(filter:)`: one SQL condition for each field of the filter.

The conditions read the files of `sql/graph`, as fields do. So nobody can find out by filtering what they may not read
(D27).
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
from gql_server.reads.links import PORTAL_ROLES, Args, ReadContext


def _exists(table: str, condition: str) -> str:
    """Return the condition that a graph file has a row `r` that meets a condition and that the viewer may see."""
    return f"exists (select from (\n{graph_rows(table)}\n) as r where {condition})"


def _enrolled(more: str = "") -> str:
    return _exists("enrollment", f"r.person_id = {{child}}.person_id and r.active{more}")


def _assigned(more: str = "") -> str:
    return _exists("district_assignment", f"r.person_id = {{child}}.person_id and r.active{more}")


_HAS_MESSENGER_CONTACT = _exists("relationship", f"r.student_id = {{child}}.person_id and {reaches('r')}")
_STUDENT_IS_ENROLLED = _exists("enrollment", "r.person_id = rel.student_id and r.active")
_IS_MESSENGER_CONTACT = (
    f"exists (select from (\n{graph_rows('relationship')}\n) as rel"
    f" where rel.contact_id = {{child}}.person_id and {reaches('rel')} and {_STUDENT_IS_ENROLLED})"
)
_CONDITIONS: Mapping[str, str] = {
    # The first or the last name must start with every word.
    "search": "not exists (select from unnest(:search::text[]) as word where not ("
    "starts_with(lower({child}.first_name), word) or starts_with(lower({child}.last_name), word)))",
    "sourceId": "{child}.source_id = :source_id",
    "schoolId": f"({_enrolled(' and r.school_id = :school_id')} or {_assigned(' and r.school_id = :school_id')})",
    "grade": _enrolled(f" and {in_grades('r', 'array[:grade::text]')}"),
    # D7, D8, D9. The text contains all three, because the audience is a value, and values are never in the text.
    "audience": f"case :audience when 'STUDENTS' then {_enrolled()}"
    f" when 'STUDENT_CONTACTS' then {_IS_MESSENGER_CONTACT} else {_assigned()} end",
    "withoutMessengerContact": f"({_enrolled()}"
    f" and :without_messenger_contact::boolean = not {_HAS_MESSENGER_CONTACT})",
    "ids": "{child}.person_id = any(:ids::bigint[])",
}
_NOT_FOR_PORTAL = ("audience", "withoutMessengerContact")
"""Fields that depend on contacts whom portal users do not see."""


def people_condition(args: Args) -> str:
    """Return the SQL condition for the fields of the filter that are given."""
    given = [_CONDITIONS[name] for name, value in _filter(args).items() if value is not None]
    return " and ".join(given) or "true"


def selects_people_by_id(args: Args) -> bool:
    """Tell whether the filter has the field `ids` and no other, so that only those people are read."""
    return [name for name, value in _filter(args).items() if value is not None] == ["ids"]


def people_params(args: Args, context: ReadContext) -> dict[str, object]:
    """Return the parameters of `people_condition`. Texts that are not ids of people find nobody.

    Raises InvalidArgument if a value is too long, and Forbidden if the viewer's role may not use a field (D27).
    """
    given = _filter(args)
    _require_permitted(given, context.viewer.role)
    _require_valid_lengths(given)
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


def _require_valid_lengths(given: Mapping[str, Any]) -> None:
    for name, limit in (("sourceId", SOURCE_ID), ("schoolId", GLOBAL_ID), ("grade", LABEL)):
        limit.require_search_length(str(given.get(name) or ""), name)
    if excess := count_error("ids", given.get("ids") or (), MAX_IDS):
        raise InvalidArgument(f"`ids`: {excess}")


def _text(value: Any) -> Any:
    """Replace NUL characters, which PostgreSQL cannot hold. Nothing on record contains the replacement."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _require_permitted(given: Mapping[str, Any], role: Role) -> None:
    refused = [name for name in _NOT_FOR_PORTAL if given.get(name) is not None]
    if refused and role in PORTAL_ROLES:
        names = " and ".join(f"`{name}`" for name in refused)
        raise Forbidden(f"The filter's {names} needs a token with the role ADMIN or VENDOR. Leave it out.")
