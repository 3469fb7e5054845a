"""The conditions of `people(filter:)`: which people a filter selects, and how a page of them is found.

The conditions read the files of `sql/graph`, as fields do. So nobody can find out by filtering what they may not read
(D27).

Portal users see few people, so each of these is tested. Administrators and vendors see everybody, so a page is found in
one of two ways, neither of which reads the whole district. What many people match is found by walking through the people
in their order. What few people match is found by an index of names, schools or grades, or at worst by reading all
enrollments, assignments or relationships once. Which of the two it is, shows while the statement runs, so that the plan
is right for every value and on old statistics too: the walk ends after `_WALK` people, and only if they are too few for a
page is the other way taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from gql_server.api.enums import Audience
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.limits import (
    GLOBAL_ID,
    LABEL,
    MAX_IDS,
    PERSON_NAME,
    SOURCE_ID,
    count_error,
    search_words,
)
from gql_server.domain.viewer import Role
from gql_server.errors import Forbidden, InvalidArgument
from gql_server.hooks.people import grade_key, in_grades, reaches
from gql_server.reads.compiler import graph_rows
from gql_server.reads.links import PORTAL_ROLES, Args, ReadContext

_WALK = 4_000
"""How many people a page is looked for in, in their order, before they are looked for in another way.

Walking through them takes a few milliseconds. Of what one person in eighty matches, they hold a page of 50.
"""
_ORDER = "{row}.last_name, {row}.first_name, {row}.person_id"


def _rows(table: str) -> str:
    return f"(\n{graph_rows(table)}\n)"


def _exists(table: str, condition: str) -> str:
    """Return the condition that a graph file has a row `r` that meets a condition and that the viewer may see.

    `offset 0` makes PostgreSQL look for the row of each person, instead of reading all rows of the district first.
    """
    return f"exists (select from {_rows(table)} as r where {condition} offset 0)"


def _enrolled(more: str = "") -> str:
    return _exists("enrollment", f"r.person_id = {{row}}.person_id and r.active{more}")


def _assigned(more: str = "") -> str:
    return _exists("district_assignment", f"r.person_id = {{row}}.person_id and r.active{more}")


def _ids(table: str, column: str, condition: str) -> str:
    """Return an array of the ids of people in the rows `r` of a graph file that meet a condition."""
    return f"array(select r.{column} from {_rows(table)} as r where {condition})"


def _between(expression: str, lowest: str, highest: str, operators: tuple[str, str] = (">=", "<=")) -> str:
    """Return the condition that an indexed expression is in a range.

    The ends are subqueries, which hide their values from the planner. It then expects a small part of the table, and
    uses the index whatever the statistics say of the value.
    """
    low, high = operators
    return f"{expression} {low} (select {lowest}) and {expression} {high} (select {highest})"


def _begins(column: str) -> str:
    """Return the condition that a name begins with the longest word of the search, as the index of names finds it."""
    return _between(f"lower(r.{column})", ":word_begin::text", ":word_end::text", ("~>=~", "~<~"))


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of the filter.

    condition: whether the person `{row}` matches.
    found: a SELECT of people, which has all who match, and few others.
    selective: whether it is few people, in a district of any size, so that a page is not looked for in their order.
    """

    condition: str
    found: str
    selective: bool = False


def _people(condition: str) -> str:
    return f"select r.* from {_rows('person')} as r where {condition}"


def _people_of(*arrays: str) -> str:
    """Return the SELECT of the people whose ids are in one of the arrays."""
    return _people(f"r.person_id = any({' || '.join(arrays)})")


_REACHES = reaches("r")
_HAS_MESSENGER_CONTACT = _exists("relationship", f"r.student_id = {{row}}.person_id and {_REACHES}")
_STUDENT_IS_ENROLLED = f"exists (select from {_rows('enrollment')} as e where e.person_id = rel.student_id and e.active offset 0)"
_IS_MESSENGER_CONTACT = (
    f"exists (select from {_rows('relationship')} as rel"
    f" where rel.contact_id = {{row}}.person_id and {reaches('rel')} and {_STUDENT_IS_ENROLLED} offset 0)"
)
_AT_SCHOOL = " and r.school_id = :school_id"
_YEARS_OF_SCHOOL = "array(select c.school_year from calendar c where c.district_id = :district_id and c.school_id = :school_id)"
_IN_GRADE = in_grades("r", "array[:grade::text]")
_GRADE = grade_key(":grade::text")
_ALL_ENROLLED = f"select e.person_id from {_rows('enrollment')} as e where e.active"
_ALL_REACHED = f"select rel.student_id from {_rows('relationship')} as rel where {reaches('rel')}"

_NAMES = "select r.person_id, r.last_name, r.first_name"
_FIELDS: Mapping[str, _Field] = {
    # In the order in which one of them is chosen to find people by; the others of a filter are tested.
    "ids": _Field("{row}.person_id = any(:ids::bigint[])", _people_of(":ids::bigint[]"), selective=True),
    "sourceId": _Field("{row}.source_id = :source_id", _people("r.source_id = :source_id"), selective=True),
    "schoolId": _Field(
        f"({_enrolled(_AT_SCHOOL)} or {_assigned(_AT_SCHOOL)})",
        _people_of(
            _ids(
                "enrollment", "person_id", f"r.active{_AT_SCHOOL} and r.school_year = any({_YEARS_OF_SCHOOL})"
            ),
            _ids("district_assignment", "person_id", f"r.active{_AT_SCHOOL}"),
        ),
        selective=True,
    ),
    # The first or the last name must start with every word.
    "search": _Field(
        "not exists (select from unnest(:search::text[]) as word where not ("
        "starts_with(lower({row}.first_name), word) or starts_with(lower({row}.last_name), word)))",
        f"{_NAMES} from {_rows('person')} as r where {_begins('last_name')}\nunion all\n"
        f"{_NAMES} from {_rows('person')} as r where {_begins('first_name')} and not ({_begins('last_name')})",
    ),
    "grade": _Field(
        _enrolled(f" and {_IN_GRADE}"),
        _people_of(
            _ids("enrollment", "person_id", f"r.active and {_between(grade_key('r.grade'), _GRADE, _GRADE)}")
        ),
    ),
    "withoutMessengerContact": _Field(
        f"({_enrolled()} and :without_messenger_contact::boolean = not {_HAS_MESSENGER_CONTACT})",
        _people_of(
            f"(case when :without_messenger_contact::boolean then array({_ALL_ENROLLED} and not exists ("
            f"{_ALL_REACHED} and rel.student_id = e.person_id))"
            f" else array({_ALL_ENROLLED} and e.person_id in ({_ALL_REACHED})) end)"
        ),
    ),
    # D7, D8, D9. The text contains all three, because the audience is a value, and values are never in the text.
    "audience": _Field(
        f"case :audience when 'STUDENTS' then {_enrolled()}"
        f" when 'STUDENT_CONTACTS' then {_IS_MESSENGER_CONTACT} else {_assigned()} end",
        _people_of(
            f"(case :audience when 'STUDENTS' then array({_ALL_ENROLLED}) when 'STUDENT_CONTACTS' then "
            + _ids("relationship", "contact_id", f"{_REACHES} and r.student_id in ({_ALL_ENROLLED})")
            + f" else {_ids('district_assignment', 'person_id', 'r.active')} end)"
        ),
    ),
}
_NOT_FOR_PORTAL = ("audience", "withoutMessengerContact")
"""Fields that depend on contacts whom portal users do not see."""


_HIGHEST = "\U0010ffff" * (PERSON_NAME.longest + 1)
"""What no rest of a name comes after, in the order of the index of names."""


def people_condition(args: Args) -> str:
    """Return the SQL condition for the fields of the filter that are given, over the person `{child}`."""
    given = [name for name, value in _filter(args).items() if value is not None]
    if not given:
        return "true"
    matches = " and ".join(_FIELDS[name].condition for name in given)
    page = _page(next(field for name, field in _FIELDS.items() if name in given), matches, args)
    # PostgreSQL sees which of the two holds for the role before it plans the statement.
    tested = matches.replace("{row}", "{child}")
    return (
        f"(:viewer_sees_all or {tested})"
        f" and (not :viewer_sees_all or {{child}}.person_id = any(({page})::bigint[]))"
    )


def _page(best: _Field, matches: str, args: Args) -> str:
    """Return a SELECT of one array: the ids of the people of a page, and of one more if there is a next page."""
    is_after = "({row}.last_name, {row}.first_name, {row}.person_id) > (:after_0::text, :after_1::text, :after_2::bigint)"
    after = is_after if args.get("after") is not None else "true"
    end = f"order by {_ORDER} limit :first::bigint + 1"
    found = f"select found.person_id from (\n{best.found}\n) as found where {after} and {matches} {end}"
    found = found.replace("{row}", "found")
    if best.selective:
        return f"select array({found})"
    order = _ORDER.replace("{row}", "p")
    people = f"select p.person_id, p.last_name, p.first_name from {_rows('person')} as p"
    in_order = f"{people} where {after.replace('{row}', 'p')} order by {order}"
    walked = f"select near.person_id from (\n{in_order} limit {_WALK}\n) as near where {matches} {end}"
    return (
        f"with walked as materialized ({walked.replace('{row}', 'near')})\n"
        "select case when (select count(*) from walked) > :first::bigint"
        f" or not exists (select from ({in_order} limit 1 offset {_WALK}) as beyond)"
        f" then array(select person_id from walked) else array({found}) end"
    )


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
    words = search_words(_text(given.get("search") or ""))
    longest = max(words, key=len, default="")
    ids = [parse_id(IdKind.PERSON, str(id_)) for id_ in given.get("ids") or ()]
    return {
        "search": words,
        "word_begin": longest,
        "word_end": longest + _HIGHEST,
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
