"""Random small districts, as plain values, and a loader that puts one into the database.

In a world, people, schools, households and filters are known by their place in the list: 0, 1, 2. Each world
becomes a district of its own, whose rows have the ids 1, 2, 3: the same as every other district's, so that a
statement that forgets the district shows.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from hypothesis import strategies as st

from gql_server.db.protocols import Connection
from gql_server.domain.batch import FilterKind
from gql_server.domain.channels import (
    HOUSEHOLD_CHANNELS,
    PERSON_CHANNELS,
    Channel,
    ContactPointKind,
    Method,
)
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.viewer import District
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import create_district, reason_bits

REASONS = (
    "EMERGENCY", "ATTENDANCE", "BEHAVIOR", "STAFF", "GENERAL", "FOOD_SERVICE", "PRIORITY", "TEACHER",
)  # fmt: skip
YEARS = (2025, 2026)
GRADES = ("09", "9", "10")
TITLES = ("Teacher", "Principal")
PHONES = ("555-0100", "555-0101", "555-0102")
EMAILS = ("ada@example.org", "sam@example.org", "lee@example.org")
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_LASTING = ("school", "calendar", "saved_filter", "person", "household")
"""The tables whose rows others refer to: their number does not change with the world."""
_ID_FIELDS = {"person": IdKind.PERSON, "school": IdKind.SCHOOL, "assignmentSchool": IdKind.SCHOOL}
PERSON_KINDS = tuple(kind for kind in ContactPointKind if kind is not ContactPointKind.HOUSEHOLD_PHONE)

Cell = tuple[ContactPointKind, str]
Criteria = dict[str, Any]


class Span(StrEnum):
    """When something holds: its start and end, in days from today; empty for open."""

    ALWAYS = ":"
    SINCE_TODAY = "0:"
    UNTIL_TODAY = ":0"
    ONLY_TODAY = "0:0"
    AROUND_TODAY = "-9:9"
    ENDED_YESTERDAY = "-9:-1"
    FROM_TOMORROW = "1:"

    def dates(self, today: date) -> tuple[date | None, date | None]:
        start, _, end = self.partition(":")
        return _day(today, start), _day(today, end)


def _day(today: date, offset: str) -> date | None:
    return today + timedelta(days=int(offset)) if offset else None


@dataclass(frozen=True)
class Enrollment:
    school: int
    year: int
    grade: str
    span: Span


@dataclass(frozen=True)
class Assignment:
    school: int | None
    title: str | None
    span: Span


@dataclass(frozen=True)
class State:
    """The reasons that are on for a channel, and those that are the person's own choice."""

    on: frozenset[str] = frozenset()
    chosen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Person:
    contact_points: dict[ContactPointKind, str]
    enrollments: tuple[Enrollment, ...]
    assignments: tuple[Assignment, ...]
    preferences: dict[Channel, State]


@dataclass(frozen=True)
class Member:
    person: int
    span: Span


@dataclass(frozen=True)
class Household:
    phone: str | None
    members: tuple[Member, ...]
    preferences: dict[Channel, State]


@dataclass(frozen=True)
class Relationship:
    student: int
    contact: int
    messenger: bool
    no_contact: bool
    span: Span


@dataclass(frozen=True)
class OptOut:
    """`reasons` None: every reason."""

    address: str
    method: Method
    reasons: frozenset[str] | None
    lifted: bool


@dataclass(frozen=True)
class Filter:
    """Criteria as the API takes them, but with places in the world's lists where ids stand."""

    kind: FilterKind
    criteria: Criteria


@dataclass(frozen=True)
class World:
    time_zone: str
    schools: int
    people: tuple[Person, ...]
    households: tuple[Household, ...]
    relationships: tuple[Relationship, ...]
    opt_outs: tuple[OptOut, ...]
    disabled: frozenset[Cell]
    filters: tuple[Filter, ...]


# ── strategies ──────────────────────────────────────────────────────────────────────────────────

ACTIVE_SPANS = (Span.ALWAYS, Span.SINCE_TODAY, Span.UNTIL_TODAY, Span.ONLY_TODAY, Span.AROUND_TODAY)
# Twice as many rows that hold today as rows that do not: few people are selected otherwise.
_spans = st.sampled_from([*ACTIVE_SPANS, *ACTIVE_SPANS, Span.ENDED_YESTERDAY, Span.FROM_TOMORROW])
_reasons = st.integers(0, 2 ** len(REASONS) - 1).map(
    lambda mask: frozenset(reason for bit, reason in enumerate(REASONS) if mask >> bit & 1)
)
_states = st.builds(State, on=_reasons, chosen=_reasons)


def _rows(items: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[tuple[Any, ...]]:
    """Up to `most` items, any number as likely as another: lists alone tend to be short."""
    return st.integers(0, most).flatmap(lambda n: st.tuples(*[items] * n))


def _contact_points() -> st.SearchStrategy[dict[ContactPointKind, str]]:
    values: dict[ContactPointKind, st.SearchStrategy[str]] = {
        kind: st.sampled_from(PHONES if kind.is_phone else EMAILS) for kind in PERSON_KINDS
    }  # few addresses, so that people and opt-outs share them
    return st.fixed_dictionaries({}, optional=values)


def _people(schools: int) -> st.SearchStrategy[Person]:
    places = st.integers(0, schools - 1)
    enrollments = st.builds(Enrollment, places, st.sampled_from(YEARS), st.sampled_from(GRADES), _spans)
    assignments = st.builds(
        Assignment, st.none() | places if schools else st.none(), st.none() | st.sampled_from(TITLES), _spans
    )
    return st.builds(
        Person,
        contact_points=_contact_points(),
        enrollments=_rows(enrollments, 2) if schools else st.just(()),
        assignments=_rows(assignments, 2),
        preferences=st.fixed_dictionaries({}, optional=dict.fromkeys(PERSON_CHANNELS, _states)),
    )


def _households(people: int) -> st.SearchStrategy[Household]:
    members = st.builds(Member, st.integers(0, people - 1), _spans)
    return st.builds(
        Household,
        phone=st.sampled_from([*PHONES, None]),
        members=_rows(members, 4) if people else st.just(()),
        preferences=st.fixed_dictionaries({}, optional=dict.fromkeys(HOUSEHOLD_CHANNELS, _states)),
    )


def _relationships(people: int) -> st.SearchStrategy[tuple[Relationship, ...]]:
    if people < 2:
        return st.just(())
    one = st.builds(
        Relationship,
        student=st.integers(0, people - 1),
        contact=st.integers(0, people - 1),
        messenger=st.sampled_from([True, True, False]),
        no_contact=st.sampled_from([False, False, True]),
        span=_spans,
    )
    # A relationship to oneself cannot be: it becomes one to the next person.
    return _rows(one, 8).map(lambda rows: tuple(_apart(row, people) for row in rows))


def _apart(row: Relationship, people: int) -> Relationship:
    return row if row.student != row.contact else replace(row, contact=(row.contact + 1) % people)


def _opt_outs() -> st.SearchStrategy[OptOut]:
    by_phone = st.tuples(st.sampled_from(PHONES), st.sampled_from([Method.VOICE, Method.VOICE, Method.TEXT]))
    by_email = st.tuples(st.sampled_from(EMAILS), st.just(Method.EMAIL))
    scopes = st.none() | _reasons
    lifted = st.sampled_from([False, False, True])
    return st.tuples(by_phone | by_email, scopes, lifted).map(lambda o: OptOut(*o[0], o[1], o[2]))


def leaves(kind: FilterKind, people: int, schools: int) -> st.SearchStrategy[Criteria]:
    """Criteria of one field. An id field names places in the lists, and one beyond them."""

    def leaf(field: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Criteria]:
        one = values.map(lambda value: {"field": field, "is": value})
        return one | st.lists(values, min_size=1, max_size=3).map(lambda many: {"field": field, "in": many})

    def flag(field: str) -> st.SearchStrategy[Criteria]:
        return st.booleans().map(lambda value: {"field": field, "is": value})

    both = [
        leaf("person", st.integers(0, people)),
        flag("activeEnrollment"),
        leaf("hasContactPoint", st.sampled_from(list(map(str, ContactPointKind)))),
    ]
    student = [
        leaf("grade", st.sampled_from([*GRADES, "010", "none"])),
        leaf("school", st.integers(0, schools)),
        leaf("schoolYear", st.sampled_from(YEARS)),
        flag("hasMessengerContact"),
    ]
    census = [
        leaf("assignmentTitle", st.sampled_from([*TITLES, "none"])),
        leaf("assignmentSchool", st.integers(0, schools)),
    ]
    return st.one_of(*both, *(student if kind is FilterKind.STUDENT else census))


def criteria(kind: FilterKind, people: int, schools: int) -> st.SearchStrategy[Criteria]:
    def joined(parts: st.SearchStrategy[Criteria]) -> st.SearchStrategy[Criteria]:
        lists = st.lists(parts, min_size=1, max_size=3)
        return (
            lists.map(lambda many: {"all": many})
            | lists.map(lambda many: {"any": many})
            | parts.map(lambda one: {"not": one})
        )

    return st.recursive(leaves(kind, people, schools), joined, max_leaves=5)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Districts of up to three schools, eight people, three households and two filters of each kind."""
    schools = draw(st.sampled_from([2, 1, 3, 2, 1, 3, 0]))
    count = draw(st.sampled_from([6, 5, 7, 8, 4, 6, 5, 7, 8, 3, 2, 1, 0]))
    people = tuple(draw(_people(schools)) for _ in range(count))
    cells = st.tuples(st.sampled_from(ContactPointKind), st.sampled_from(REASONS))
    world = World(
        time_zone=draw(st.sampled_from(["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])),
        schools=schools,
        people=people,
        households=draw(_rows(_households(len(people)), 3)),
        relationships=draw(_relationships(len(people))),
        opt_outs=draw(_rows(_opt_outs(), 5)),
        disabled=draw(st.frozensets(cells, max_size=3)),
        filters=tuple(
            Filter(kind, draw(criteria(kind, len(people), schools)))
            for kind in (FilterKind.STUDENT, FilterKind.CENSUS)
        ),
    )
    return draw(_with_family(world)) if schools and count > 3 and draw(st.booleans()) else world


@st.composite
def _with_family(draw: st.DrawFn, world: World) -> World:
    """Two students of different grades who share two contacts of one household, some by no-contact marks (D31)."""
    *others, first, second = world.people
    students = [
        replace(student, enrollments=(Enrollment(0, max(YEARS), grade, Span.ALWAYS),))
        for student, grade in ((first, "09"), (second, "10"))
    ]
    relationships = [
        Relationship(len(others) + student, contact, True, draw(st.booleans()), Span.ALWAYS)
        for student in (0, 1)
        for contact in (0, 1)
        if draw(st.sampled_from([True, True, False]))
    ]
    household = Household(PHONES[2], (Member(0, Span.ALWAYS), Member(1, draw(_spans))), {})
    return replace(
        world,
        people=(*others, *students),
        relationships=(*world.relationships, *relationships),
        households=(*world.households[:2], household),
    )


def _now_and_then(draw: st.DrawFn, old: Any, new: st.SearchStrategy[Any]) -> Any:
    return draw(new) if draw(st.sampled_from([True, False])) else old


@st.composite
def later_worlds(draw: st.DrawFn, world: World) -> World:
    """The same district some time later: some of all that is written about people, households and rules is another."""
    fresh = _people(world.schools)
    parts = st.sampled_from(["preferences", "contact_points", "preferences", "assignments", "enrollments"])

    def person(old: Person) -> Person:
        part = draw(parts)
        return replace(old, **{part: getattr(_now_and_then(draw, old, fresh), part)})

    households = _households(len(world.people))
    cells = st.tuples(st.sampled_from(ContactPointKind), st.sampled_from(REASONS))
    opt_outs = _now_and_then(draw, world.opt_outs, _rows(_opt_outs(), 5))
    off = draw(
        st.sampled_from([st.just(frozenset()), st.just(frozenset()), st.frozensets(cells, max_size=2)])
    )
    return replace(
        world,
        people=tuple(person(old) for old in world.people),
        households=tuple(_now_and_then(draw, old, households) for old in world.households),
        relationships=_now_and_then(draw, world.relationships, _relationships(len(world.people))),
        opt_outs=opt_outs,
        disabled=world.disabled | draw(off),
    )


# ── the loader ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Loaded:
    """A world in the database: its district and the bits of its reasons."""

    district: District
    bits: ReasonBits


def row_id(place: int) -> int:
    """Return the number that the row at a place of a world's list has in the database."""
    return place + 1


async def load(conn: Connection, host: PluginHost, world: World, code: str) -> Loaded:
    """Insert a world as a new district, without a word in the history (D28). Call it in a transaction."""
    district = await create_district(conn, code, code, world.time_zone, host.reasons)
    bits = await reason_bits(conn, district.district_id)
    await conn.execute("delete from disabled_cell where district_id = $1", district.district_id)
    for table, columns, rows in _tables(world, bits, district.today()):
        records = [(district.district_id, *row) for row in rows]
        if records:
            await conn.copy_records_to_table(
                table, records=records, columns=["district_id", *columns.split()]
            )
    return Loaded(district, bits)


async def reload(conn: Connection, loaded: Loaded, world: World) -> None:
    """Put another world in the place of the one that was loaded: one with as many people, households and schools.

    Like `load` without a word in the history. Call it in a transaction.
    """
    district_id = loaded.district.district_id
    for table, columns, rows in _tables(world, loaded.bits, loaded.district.today()):
        if table in _LASTING:
            continue
        await conn.execute(f"delete from {table} where district_id = $1", district_id)
        if records := [(district_id, *row) for row in rows]:
            await conn.copy_records_to_table(
                table, records=records, columns=["district_id", *columns.split()]
            )
    for place, household in enumerate(world.households):
        await conn.execute(
            "update household set phone = $3 where district_id = $1 and household_id = $2",
            district_id, row_id(place), household.phone,
        )  # fmt: skip


def to_api(criteria: Criteria) -> Criteria:
    """Return criteria with global ids where places stood, as the API takes them."""
    if "field" not in criteria:
        ((key, parts),) = criteria.items()
        return {key: to_api(parts) if key == "not" else [to_api(part) for part in parts]}
    kind = _ID_FIELDS.get(criteria["field"])
    if kind is None:
        return criteria
    key, value = next(item for item in criteria.items() if item[0] != "field")
    ids = [encode_id(kind, row_id(place)) for place in ([value] if key == "is" else value)]
    return {"field": criteria["field"], key: ids[0] if key == "is" else ids}


Table = tuple[str, str, Iterable[Sequence[object]]]


def _tables(world: World, bits: ReasonBits, today: date) -> list[Table]:
    return [
        *_places(world, bits),
        *_people_tables(world, bits, today),
        *_household_tables(world, bits, today),
        ("relationship", "student_id contact_id kind messenger no_contact start_date end_date", [
            (row_id(r.student), row_id(r.contact), "Mother", r.messenger, r.no_contact, *r.span.dates(today))
            for r in world.relationships
        ]),
    ]  # fmt: skip


def _places(world: World, bits: ReasonBits) -> list[Table]:
    schools = range(world.schools)
    return [
        ("school", "school_id source_id name", [(row_id(n), f"S{n}", f"School {n}") for n in schools]),
        ("calendar", "school_id school_year", [(row_id(n), year) for n in schools for year in YEARS]),
        ("disabled_cell", "contact_point reason", world.disabled),
        ("opt_out", "address method reasons source lifted_at", [
            (o.address, o.method, None if o.reasons is None else bits.mask(o.reasons), "VENDOR",
             _LONG_AGO if o.lifted else None)
            for o in world.opt_outs
        ]),
        ("saved_filter", "saved_filter_id name kind criteria", [
            (row_id(n), f"F{n}", f.kind, json.dumps(to_api(f.criteria))) for n, f in enumerate(world.filters)
        ]),
    ]  # fmt: skip


def _people_tables(world: World, bits: ReasonBits, today: date) -> list[Table]:
    people = [(row_id(n), person) for n, person in enumerate(world.people)]
    names = [(n, f"P{n}", "Ada", f"Lane {n}") for n, _ in people]
    return [
        ("person", "person_id source_id first_name last_name", names),
        ("contact_point", "person_id kind value", [
            (n, kind, value) for n, p in people for kind, value in p.contact_points.items()
        ]),
        ("enrollment", "person_id school_id school_year grade start_date end_date", [
            (n, row_id(e.school), e.year, e.grade, *e.span.dates(today))
            for n, p in people for e in p.enrollments
        ]),
        ("district_assignment", "person_id school_id title start_date end_date", [
            (n, None if a.school is None else row_id(a.school), a.title, *a.span.dates(today))
            for n, p in people for a in p.assignments
        ]),
        ("preference", "person_id contact_point method reasons_on reasons_chosen", [
            (n, *channel, bits.mask(state.on), bits.mask(state.chosen))
            for n, p in people for channel, state in p.preferences.items()
        ]),
    ]  # fmt: skip


def _household_tables(world: World, bits: ReasonBits, today: date) -> list[Table]:
    households = [(row_id(n), household) for n, household in enumerate(world.households)]
    return [
        ("household", "household_id name phone", [(n, "Lane", h.phone) for n, h in households]),
        ("household_member", "household_id person_id start_date end_date", [
            (n, row_id(m.person), *m.span.dates(today)) for n, h in households for m in h.members
        ]),
        ("household_preference", "household_id contact_point method reasons_on reasons_chosen", [
            (n, *channel, bits.mask(state.on), bits.mask(state.chosen))
            for n, h in households for channel, state in h.preferences.items()
        ]),
    ]  # fmt: skip
