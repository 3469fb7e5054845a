"""The conditions of `people(filter:)`: which people a filter selects, and how a page of them is found.

The conditions read the files of `sql/graph`, as fields do. So nobody can find out by filtering what they may not read
(D27). People are read without them only for those who see everybody.

Portal users see few people, so each of these is tested. Administrators and vendors see everybody, so a page is found in
one of two ways, neither of which reads the whole district:

- What many people match is found by *walking*: people are tested in their order, until the page is full.
- What few people match is *found* by an index of names, schools or grades. Only for what has no index are all
  enrollments, assignments or relationships read once.

Which of the two is right shows while the statement runs, for the statistics may be old and the plan made for other
values. A walk ends after so many people; if the page is not full then, few people match.
"""

from collections.abc import Mapping, Sequence
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

_LONG_WALK, _WALK = 20_000, 4_000
"""How many people are tested at most by their names first, and how many if other rows are looked up for each."""
_FEW_NAMES, _FEW = 50, 500
"""How many different names, or how many people, are so few that people are not looked for by walking at all."""
_ORDER = "{row}.last_name, {row}.first_name, {row}.person_id"
_LIMIT = f"order by {_ORDER} limit :first::bigint + 1"

_EVERYBODY = (
    "(select person_id, source_id, last_name, first_name from person"
    " where district_id = :district_id and :viewer_sees_all)"
)
"""The people, in short; nobody for those who may not see everybody."""


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


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of the filter.

    condition: whether the person `{row}` matches.
    found: a SELECT of the people, named `who`, that match this field and all of `{others}`.
    few: a condition that few people match, however large the district is, so that they are found without walking.
    "true": they are always few; "false": that is not known before walking.
    few_with_others: the same, where other fields are given, which may be met by none of the many who match this one.
    by_name: whether the condition is tested by names alone, so that the walk may be long.
    start: common table expressions that `found` and `few` use.
    """

    condition: str
    found: str
    few: str = "false"
    few_with_others: str = ""
    by_name: bool = False
    start: str = ""


def _people_of(condition: str) -> str:
    return f"select who.person_id from {_EVERYBODY} as who where {condition} and {{others}} {_LIMIT}"


def _names_begin(name: str, column: str) -> str:
    """Return a common table expression: the different names, in lower case, that begin with the search's longest word.

    Each step of the recursion finds the next name in the index, however many people have it.
    """
    lower, people = f"lower(r.{column})", f"{_EVERYBODY} as r"
    end = f"{lower} ~<~ (select :word_end::text) order by {lower} using ~<~ limit 1"
    return (
        f"{name} (name) as ((select {lower} from {people} where {lower} ~>=~ (select :word_begin::text) and {end})\n"
        f"union all select (select {lower} from {people} where {lower} ~>~ before.name and {end})"
        f" from {name} before where before.name is not null)"
    )


def _people_named(name: str, condition: str) -> str:
    """Return a SELECT of the people who have one of the names, at most a page of each. The index has them in order."""
    columns = "who.person_id, who.last_name, who.first_name"
    of_name = f"select {columns} from {_EVERYBODY} as who where {condition}"
    each = f"select who.* from {name} cross join lateral ({of_name} and {{others}} {_LIMIT}) who"
    return f"{each} where {name}.name is not null"


def _each_named(name: str) -> str:
    """Return a SELECT of a row for each person with one of the names, for as many as are counted."""
    of_name = f"select from {_EVERYBODY} as who where lower(who.{name}_name) = {name}.name limit {_FEW}"
    return f"(select from {name} cross join lateral ({of_name}) who)"


_STARTS = "(starts_with(lower({row}.last_name), {word}) or starts_with(lower({row}.first_name), {word}))"
_OTHER_WORDS = (
    "(cardinality(:search::text[]) < 2 or not exists (select from unnest(:search::text[]) as word where not "
    + _STARTS.replace("{word}", "word")
    + "))"
)
_REACHES = reaches("r")
_HAS_MESSENGER_CONTACT = _exists("relationship", f"r.student_id = {{row}}.person_id and {_REACHES}")
_STUDENT_IS_ENROLLED = (
    f"exists (select from {_rows('enrollment')} as e"
    " where e.person_id = rel.student_id and e.active offset 0)"
)
_IS_MESSENGER_CONTACT = (
    f"exists (select from {_rows('relationship')} as rel"
    f" where rel.contact_id = {{row}}.person_id and {reaches('rel')} and {_STUDENT_IS_ENROLLED} offset 0)"
)
_AT_SCHOOL = " and r.school_id = :school_id"
_YEARS_OF_SCHOOL = (
    "array(select c.school_year from calendar c"
    " where c.district_id = :district_id and c.school_id = :school_id)"
)
_OF_GRADE = _between(grade_key("r.grade"), grade_key(":grade::text"), grade_key(":grade::text"))
_ALL_ENROLLED = f"select e.person_id from {_rows('enrollment')} as e where e.active"
_ALL_REACHED = f"select rel.student_id from {_rows('relationship')} as rel where {reaches('rel')}"

_FIELDS: Mapping[str, _Field] = {
    # In the order in which one of them is chosen to find people by; the others of a filter are tested.
    "ids": _Field(
        "{row}.person_id = any(:ids::bigint[])", _people_of("who.person_id = any(:ids::bigint[])"), "true"
    ),
    "sourceId": _Field("{row}.source_id = :source_id", _people_of("who.source_id = :source_id"), "true"),
    "schoolId": _Field(
        f"({_enrolled(_AT_SCHOOL)} or {_assigned(_AT_SCHOOL)})",
        _people_of(
            "who.person_id = any("
            + _ids(
                "enrollment", "person_id", f"r.active{_AT_SCHOOL} and r.school_year = any({_YEARS_OF_SCHOOL})"
            )
            + f" || {_ids('district_assignment', 'person_id', f'r.active{_AT_SCHOOL}')})"
        ),
        "true",
    ),
    # The first or the last name must start with every word. The longest word is compared first, without a subquery.
    "search": _Field(
        f"{_STARTS.replace('{word}', ':word_begin::text')} and {_OTHER_WORDS}",
        f"select who.person_id from (\n{_people_named('last', 'lower(who.last_name) = last.name')}\nunion\n"
        f"{_people_named('first', 'lower(who.first_name) = first.name')}) who {_LIMIT}".replace(
            "{others}", f"{_OTHER_WORDS} and {{others}}"
        ),
        "(select count(name) from ((select name from last limit {n}) union all (select name from first limit {n})) n)"
        " < {n}".replace("{n}", str(_FEW_NAMES)),
        f"(select count(*) from ({_each_named('last')} union all {_each_named('first')} limit {_FEW}) n) < {_FEW}",
        True,
        f"{_names_begin('last', 'last_name')},\n{_names_begin('first', 'first_name')}",
    ),
    "grade": _Field(
        _enrolled(f" and {in_grades('r', 'array[:grade::text]')}"),
        _people_of(f"who.person_id = any({_ids('enrollment', 'person_id', f'r.active and {_OF_GRADE}')})"),
        f"(select count(*) from (select from {_rows('enrollment')} as r where r.active and {_OF_GRADE}"
        f" limit {_FEW}) enrolled) < {_FEW}",
    ),
    "withoutMessengerContact": _Field(
        f"({_enrolled()} and :without_messenger_contact::boolean = not {_HAS_MESSENGER_CONTACT})",
        _people_of(
            "who.person_id = any(case when :without_messenger_contact::boolean"
            f" then array({_ALL_ENROLLED} and not exists ({_ALL_REACHED} and rel.student_id = e.person_id))"
            f" else array({_ALL_ENROLLED} and e.person_id in ({_ALL_REACHED})) end)"
        ),
    ),
    # D7, D8, D9. The text contains all three, because the audience is a value, and values are never in the text.
    "audience": _Field(
        f"case :audience when 'STUDENTS' then {_enrolled()}"
        f" when 'STUDENT_CONTACTS' then {_IS_MESSENGER_CONTACT} else {_assigned()} end",
        _people_of(
            f"who.person_id = any(case :audience when 'STUDENTS' then array({_ALL_ENROLLED})"
            " when 'STUDENT_CONTACTS' then "
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
    tested = " and ".join(_FIELDS[name].condition for name in given).replace("{row}", "{child}")
    # PostgreSQL sees which of the two holds for the role before it plans the statement.
    return (
        f"(:viewer_sees_all or {tested})"
        f" and (not :viewer_sees_all or {{child}}.person_id = any((\n{_page(given, args)})::bigint[]))"
    )


def _few(name: str, fields: Sequence[str]) -> str:
    """Return the condition that few people match a field, which is one of those given."""
    field = _FIELDS[name]
    return field.few_with_others if len(fields) > 1 and field.few_with_others else field.few


def _page(given: Sequence[str], args: Args) -> str:
    """Return a SELECT of one array: the ids of the people of a page, and of one more if there is a next page."""
    after = "true"
    if args.get("after") is not None:
        after = f"({_ORDER}) > (:after_0::text, :after_1::text, :after_2::bigint)"
    fields = [name for name in _FIELDS if name in given]
    best = _FIELDS[fields[0]]
    if best.few == "true":
        return f"select {_found(fields[0], fields, after)}".replace("{row}", "who")
    walk = _LONG_WALK if any(_FIELDS[name].by_name for name in fields) else _WALK
    people = f"select who.person_id, who.last_name, who.first_name from {_EVERYBODY} as who"
    in_order = f"{people} where {after} order by {_ORDER}"
    matches = " and ".join(_FIELDS[name].condition for name in fields)
    tables = [_FIELDS[name].start for name in fields if _FIELDS[name].start]
    tables.append(
        f"walked as materialized (select who.person_id from ({in_order} limit {walk}) as who where {matches} {_LIMIT})"
    )
    few = [
        f"when {_few(name, fields)} then {_found(name, fields, after)}"
        for name in fields
        if _FIELDS[name].few != "false"
    ]
    is_page = (
        "(select count(*) from walked) > :first::bigint"
        f" or not exists (select from ({in_order} limit 1 offset {walk}) as beyond)"
    )
    cases = "\n".join([*few, f"when {is_page} then array(select person_id from walked)"])
    start = "with recursive " + ",\n".join(tables)
    return f"{start}\nselect case {cases}\nelse {_found(fields[0], fields, after)} end".replace(
        "{row}", "who"
    )


def _found(name: str, fields: Sequence[str], after: str) -> str:
    """Return the array of the ids of a page, found by one field and tested by the others."""
    others = " and ".join([after, *(_FIELDS[other].condition for other in fields if other != name)])
    return f"array({_FIELDS[name].found.replace('{others}', others)})"


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
