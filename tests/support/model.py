"""The rules of batches, said once more and naively: plain Python over a world.

Written from the rules of the domain (D1-D20, D31, D32) and not from the product, so that each can be held against the
other.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from gql_server.domain.batch import FilterKind, Setting
from gql_server.domain.channels import Channel, ContactPointKind, batch_method
from tests.support.worlds import (
    REASONS,
    Assignment,
    Cell,
    Criteria,
    Household,
    Person,
    Relationship,
    Span,
    State,
    World,
)

HOUSEHOLD_PHONE = ContactPointKind.HOUSEHOLD_PHONE
FILTER_KINDS = {
    "STUDENT_CONTACTS": FilterKind.STUDENT,
    "STUDENTS": FilterKind.STUDENT,
    "CENSUS_STAFF": FilterKind.CENSUS,
}


@dataclass(frozen=True)
class Scope:
    """What narrows a mode (D12), by places in the world's lists; None: not given."""

    schools: tuple[int, ...] | None = None
    year: int | None = None
    grades: tuple[str, ...] | None = None
    filter: int | None = None


@dataclass(frozen=True)
class Request:
    mode: str
    scope: Scope
    cells: tuple[tuple[ContactPointKind, str, Setting], ...]
    keep_chosen: bool = False


@dataclass(frozen=True, order=True)
class Subject:
    """A household or a person, by the place in the world's list."""

    household: bool
    place: int


@dataclass
class Counts:
    """What came of a cell (D20)."""

    updated: int = 0
    unchanged: int = 0
    overwrote_chosen: int = 0
    kept_chosen: int = 0
    excluded: int = 0
    people_affected: int = 0


Excluded = tuple[Subject, ContactPointKind, str]
Deniers = Callable[[World, Request, Subject, Cell, Setting], set[str]]
"""Returns the plug-ins whose rules keep a subject out of a cell of a request."""


@dataclass
class Outcome:
    """What a run leaves: errors, or counts, who was kept out by which rules, and the world after it."""

    world: World
    errors: frozenset[str] = frozenset()
    population: int = 0
    cells: dict[Cell, Counts] = field(default_factory=dict)
    exclusions: dict[Excluded, frozenset[str]] = field(default_factory=dict)
    targets: set[Subject] = field(default_factory=set)
    """The people and households with a cell that no rule keeps them out of."""


def run(world: World, request: Request, deniers: Deniers | None = None) -> Outcome:
    """Work a batch on a world; `deniers` where there are other rules than the built-in ones."""
    errors = request_errors(world, request)
    scoped = not any(_scope_errors(world, request.mode, request.scope))
    people = population(world, request.mode, request.scope) if scoped else set()
    if scoped and not people:
        errors |= {"NOBODY_SELECTED"}  # D32
    if errors:
        return Outcome(world, errors)
    named = {cell[:2]: cell[2] for cell in request.cells if cell[2] is not Setting.NO_CHANGE}
    if any(cell in world.disabled or not on_record(world, people, cell[0]) for cell in named):
        return Outcome(world, frozenset({"CELL_NOT_ENABLED"}))  # D15
    outcome = Outcome(world, population=len(people))
    for cell, setting in named.items():
        outcome.cells[cell] = _work(outcome, people, request, cell, setting, deniers or builtin_deniers)
    return outcome


def _work(
    outcome: Outcome, people: set[int], request: Request, cell: Cell, setting: Setting, deniers: Deniers
) -> Counts:
    """Set one cell for everyone it applies to, and count (D16-D19)."""
    kind, reason = cell
    counts, changed = Counts(), []
    for subject in subjects(outcome.world, people, kind):
        rules = deniers(outcome.world, request, subject, cell, setting)
        state = state_of(outcome.world, subject, kind)
        if rules:
            counts.excluded += 1
            outcome.exclusions[subject, kind, reason] = frozenset(rules)
            continue
        outcome.targets.add(subject)
        if (reason in state.on) is (setting is Setting.ON):
            counts.unchanged += 1
        elif reason in state.chosen and request.keep_chosen:
            counts.kept_chosen += 1
        else:
            counts.updated += 1
            counts.overwrote_chosen += reason in state.chosen
            on = state.on | {reason} if setting is Setting.ON else state.on - {reason}
            outcome.world = with_state(outcome.world, subject, kind, State(on, state.chosen - {reason}))
            changed.append(subject)
    counts.people_affected = people_affected(outcome.world, kind, changed)
    return counts


# ── the request ─────────────────────────────────────────────────────────────────────────────────


def request_errors(world: World, request: Request) -> frozenset[str]:
    """Return the codes of what is wrong with a request, whoever it selects (D12, D13)."""
    return frozenset([*_scope_errors(world, request.mode, request.scope), *_cell_errors(request)])


def _scope_errors(world: World, mode: str, scope: Scope) -> Iterable[str]:
    if mode not in FILTER_KINDS:
        yield "UNKNOWN_MODE"
    if any(place not in range(world.schools) for place in scope.schools or ()):
        yield "UNKNOWN_SCHOOL"
    if scope.filter is not None and scope.filter not in range(len(world.filters)):
        yield "UNKNOWN_FILTER"
    elif scope.filter is not None and FILTER_KINDS.get(mode) not in (None, world.filters[scope.filter].kind):
        yield "WRONG_FILTER_KIND"
    if mode == "CENSUS_STAFF" and scope.filter is None:
        yield "FILTER_REQUIRED"
    if mode == "CENSUS_STAFF" and scope.grades is not None:
        yield "GRADES_NOT_ALLOWED"
    if mode == "CENSUS_STAFF" and scope.year is not None:
        yield "SCHOOL_YEAR_NOT_ALLOWED"
    there = {unpadded(e.grade) for person in world.people for e in person.enrollments}
    if mode in ("STUDENTS", "STUDENT_CONTACTS") and not {*map(unpadded, scope.grades or ())} <= there:
        yield "UNKNOWN_GRADE"


def _cell_errors(request: Request) -> Iterable[str]:
    known = {cell for cell in request.cells if cell[1] in REASONS}
    unknown = len(known) < len(set(request.cells))
    conflicting = len({cell[:2] for cell in known}) < len(known)
    if unknown:
        yield "UNKNOWN_REASON"
    if conflicting:
        yield "CONFLICTING_CELLS"
    if (
        not unknown
        and not conflicting
        and all(setting is Setting.NO_CHANGE for _, _, setting in request.cells)
    ):
        yield "NO_CELLS"


# ── who ─────────────────────────────────────────────────────────────────────────────────────────


def active(span: Span) -> bool:
    """Return whether start ≤ today ≤ end, a missing one being open (D6)."""
    start, _, end = span.partition(":")
    return (not start or int(start) <= 0) and (not end or int(end) >= 0)


def population(world: World, mode: str, scope: Scope) -> set[int]:
    """Return the people whom a mode selects in a scope (D11, D12)."""
    if mode == "CENSUS_STAFF":
        return {
            n for n, person in enumerate(world.people) if _staff(person, scope) and _fits(world, scope, n)
        }
    if mode == "STUDENTS":
        return _students(world, scope)
    return {r.contact for r in _selecting(world, scope)}


def _students(world: World, scope: Scope) -> set[int]:
    return {
        n
        for n, person in enumerate(world.people)
        if _enrolled(world, person, scope) and _fits(world, scope, n)
    }


def _selecting(world: World, scope: Scope) -> list[Relationship]:
    """Return the relationships through which STUDENT_CONTACTS selects people (D8)."""
    students = _students(world, scope)
    return [r for r in world.relationships if active(r.span) and r.messenger and r.student in students]


def _fits(world: World, scope: Scope, person: int) -> bool:
    return scope.filter is None or fits(world, world.filters[scope.filter].criteria, person)


def _staff(person: Person, scope: Scope) -> bool:
    return any(scope.schools is None or a.school in scope.schools for a in assignments(person))


def _enrolled(world: World, person: Person, scope: Scope) -> bool:
    year = scope.year or max(
        (e.year for p in world.people for e in p.enrollments if active(e.span)), default=None
    )
    return any(
        active(e.span)
        and e.year == year
        and (scope.schools is None or e.school in scope.schools)
        and (scope.grades is None or unpadded(e.grade) in map(unpadded, scope.grades))
        for e in person.enrollments
    )


def unpadded(grade: str) -> str:
    """Return a grade without the zeros before it: `7` and `07` are one (D32)."""
    return grade.lstrip("0") or grade[-1:]


def assignments(person: Person) -> list[Assignment]:
    """Return a person's active district assignments (D9)."""
    return [assignment for assignment in person.assignments if active(assignment.span)]


def members(household: Household) -> set[int]:
    """Return the active members of a household."""
    return {member.person for member in household.members if active(member.span)}


def subjects(world: World, people: set[int], kind: ContactPointKind) -> list[Subject]:
    """Return whom a cell of a contact point applies to: the people selected, or their households (D17)."""
    if kind is not HOUSEHOLD_PHONE:
        return [Subject(False, person) for person in sorted(people)]
    return [Subject(True, n) for n, household in enumerate(world.households) if members(household) & people]


def people_affected(world: World, kind: ContactPointKind, changed: list[Subject]) -> int:
    if kind is not HOUSEHOLD_PHONE:
        return len(changed)
    return len({person for subject in changed for person in members(world.households[subject.place])})


# ── what is on record, and what keeps people out ────────────────────────────────────────────────


def address_of(world: World, subject: Subject, kind: ContactPointKind) -> str | None:
    if subject.household:
        return world.households[subject.place].phone
    return world.people[subject.place].contact_points.get(kind)


def on_record(world: World, people: set[int], kind: ContactPointKind) -> bool:
    """Return whether anybody selected has the contact point on record (D15)."""
    return any(address_of(world, subject, kind) is not None for subject in subjects(world, people, kind))


def builtin_deniers(
    world: World, request: Request, subject: Subject, cell: Cell, setting: Setting
) -> set[str]:
    """Return the built-in plug-ins whose rules keep a subject out of a cell."""
    kind, reason = cell
    address = address_of(world, subject, kind)
    rules = {"on_record"} if address is None else set()  # D16
    if setting is Setting.OFF:
        return rules
    if any(
        not o.lifted
        and o.address == address
        and o.method is batch_method(kind)
        and (o.reasons is None or reason in o.reasons)
        for o in world.opt_outs
    ):
        rules.add("opt_outs")  # D19
    if reason == "STAFF" and not any(assignments(world.people[n]) for n in _reached(world, subject)):
        rules.add("staff_reason")  # D3
    if request.mode == "STUDENT_CONTACTS" and _no_contact(world, request.scope, subject):
        rules.add("no_contact")  # D31
    return rules


def _reached(world: World, subject: Subject) -> set[int]:
    return members(world.households[subject.place]) if subject.household else {subject.place}


def _no_contact(world: World, scope: Scope, subject: Subject) -> bool:
    """Return whether a contact, or each selected person of a household, is selected by marked relationships (D31)."""
    if not subject.household:
        return all(r.no_contact for r in _selecting(world, scope) if r.contact == subject.place)
    selected = members(world.households[subject.place]) & population(world, "STUDENT_CONTACTS", scope)
    return all(_no_contact(world, scope, Subject(False, person)) for person in selected)


# ── preferences ─────────────────────────────────────────────────────────────────────────────────


def state_of(world: World, subject: Subject, kind: ContactPointKind) -> State:
    """Return the channel that a batch sets: by VOICE or EMAIL, never TEXT (D14). Never set is off (D4)."""
    holder = world.households[subject.place] if subject.household else world.people[subject.place]
    return holder.preferences.get(Channel(kind, batch_method(kind)), State())


def with_state(world: World, subject: Subject, kind: ContactPointKind, state: State) -> World:
    channel = Channel(kind, batch_method(kind))
    if subject.household:
        households = list(world.households)
        old = households[subject.place]
        households[subject.place] = replace(old, preferences={**old.preferences, channel: state})
        return replace(world, households=tuple(households))
    people = list(world.people)
    person = people[subject.place]
    people[subject.place] = replace(person, preferences={**person.preferences, channel: state})
    return replace(world, people=tuple(people))


# ── saved filters ───────────────────────────────────────────────────────────────────────────────


def fits(world: World, criteria: Criteria, person: int) -> bool:
    """Return whether a person fits the criteria of a saved filter."""
    if "all" in criteria:
        return all(fits(world, part, person) for part in criteria["all"])
    if "any" in criteria:
        return any(fits(world, part, person) for part in criteria["any"])
    if "not" in criteria:
        return not fits(world, criteria["not"], person)
    wanted = criteria["in"] if "in" in criteria else [criteria["is"]]
    if criteria["field"] == "grade":
        wanted = [*map(unpadded, wanted)]
    return any(value in wanted for value in _values(world, criteria["field"], person))


def _values(world: World, name: str, n: int) -> set[object]:
    """Return the values that a person has of a field."""
    person = world.people[n]
    enrollments = [e for e in person.enrollments if active(e.span)]
    contacts = [
        r for r in world.relationships
        if r.student == n and r.messenger and not r.no_contact and active(r.span)
    ]  # fmt: skip
    phones = [h.phone for h in world.households if n in members(h) and h.phone]
    values: dict[str, set[object]] = {
        "person": {n},
        "grade": {unpadded(e.grade) for e in enrollments},
        "school": {e.school for e in enrollments},
        "schoolYear": {e.year for e in enrollments},
        "activeEnrollment": {bool(enrollments)},
        "hasMessengerContact": {bool(contacts)},
        "hasContactPoint": {*person.contact_points, *([HOUSEHOLD_PHONE] if phones else [])},
        "assignmentTitle": {a.title for a in assignments(person)},
        "assignmentSchool": {a.school for a in assignments(person)},
    }
    return values[name]
