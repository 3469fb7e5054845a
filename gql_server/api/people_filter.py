"""The conditions of `people(filter:)`: one piece of SQL for each part of the filter that is given."""

from collections.abc import Mapping
from typing import Any, cast

from gql_server.api.enums import Audience
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.limits import GLOBAL_ID, LABEL, MAX_IDS, SOURCE_ID, list_excess, search_words
from gql_server.errors import InvalidArgument
from gql_server.reads.links import Args, ReadContext

_ACTIVE = ":today between coalesce({0}.start_date, '-infinity') and coalesce({0}.end_date, 'infinity')"
_ENROLLED = (
    "exists (select from enrollment e where e.district_id = :district_id and e.person_id = {child}.person_id"
    " and " + _ACTIVE.format("e") + "{0})"
)
_ASSIGNED = (
    "exists (select from district_assignment a where a.district_id = :district_id"
    " and a.person_id = {child}.person_id and " + _ACTIVE.format("a") + "{0})"
)
_REACHED = (
    "exists (select from relationship r where r.district_id = :district_id and r.messenger and not r.no_contact"
    " and " + _ACTIVE.format("r") + " and r.{0})"
)


def _with(template: str, more: str) -> str:
    return template.replace("{0}", more)


_ENROLLED_STUDENT_OF_CONTACT = (
    "contact_id = {child}.person_id and exists (select from enrollment e where e.district_id = :district_id"
    " and e.person_id = r.student_id and " + _ACTIVE.format("e") + ")"
)
_CONDITIONS: Mapping[str, str] = {
    # Every word must be the beginning of the first or the last name.
    "search": "not exists (select from unnest(:search::text[]) as word where not ("
    "starts_with(lower({child}.first_name), word) or starts_with(lower({child}.last_name), word)))",
    "sourceId": "{child}.source_id = :source_id",
    "schoolId": f"({_with(_ENROLLED, ' and e.school_id = :school_id')}"
    f" or {_with(_ASSIGNED, ' and a.school_id = :school_id')})",
    "grade": _with(_ENROLLED, " and e.grade = :grade"),
    # D7, D8, D9. All three are in the text: which of them is asked for is a value.
    "audience": "case :audience"
    f" when 'STUDENTS' then {_with(_ENROLLED, '')}"
    f" when 'STUDENT_CONTACTS' then {_with(_REACHED, _ENROLLED_STUDENT_OF_CONTACT)}"
    f" else {_with(_ASSIGNED, '')} end",
    "withoutMessengerContact": f"({_with(_ENROLLED, '')}"
    f" and :without_messenger_contact::boolean = not {_with(_REACHED, 'student_id = {child}.person_id')})",
    "ids": "{child}.person_id = any(:ids::bigint[])",
}


def people_condition(args: Args) -> str:
    """Return the SQL for the parts of the filter that are given."""
    given = [_CONDITIONS[name] for name, value in _filter(args).items() if value is not None]
    return " and ".join(given) or "true"


def people_params(args: Args, context: ReadContext) -> dict[str, object]:
    """Return the values of the parameters of `people_condition`. Ids that are none find nobody.

    Raises InvalidArgument for what is too long.
    """
    given = _filter(args)
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
        limit.sought(str(given.get(name) or ""), name)
    if excess := list_excess("ids", given.get("ids") or (), MAX_IDS):
        raise InvalidArgument(f"`ids`: {excess}")


def _text(value: Any) -> Any:
    """Return a text that PostgreSQL can hold; no name or id on record contains a NUL."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value
