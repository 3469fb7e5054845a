"""What each field of the graph answers, over lists of rows. A field without one here is the column of its name."""

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

from gql_server.domain.changes import ChangeKind
from gql_server.domain.channels import HOUSEHOLD_CHANNELS, PERSON_CHANNELS, ContactPointKind, Method
from gql_server.domain.viewer import Role
from gql_server.errors import Forbidden, InvalidArgument
from tests.support.naive_pages import KINDS, page
from tests.support.naive_rules import Eyes, Row, same_grade

Resolver = Callable[..., Any]
RESOLVERS: dict[tuple[str, str], Resolver] = {}


def answers(*fields: str) -> Callable[[Resolver], Resolver]:
    """Make a function answer fields, given as "Type.field"; it takes the viewer's eyes, the row and the arguments."""

    def register(function: Resolver) -> Resolver:
        for field in fields:
            type_, _, name = field.partition(".")
            RESOLVERS[type_, name] = function
        return function

    return register


def _first(rows: Iterable[Row]) -> Row | None:
    return next(iter(rows), None)


def _sorted(rows: Iterable[Row], *columns: str) -> list[Row]:
    return sorted(rows, key=itemgetter(*columns))


# ── by id ───────────────────────────────────────────────────────────────────────────────────────

_NODES = {
    "Person": ("person", "person"),
    "Household": ("household", "household"),
    "School": ("school", "school"),
    "BatchRun": ("run", "batch_run"),
    "SavedFilter": ("filter", "saved_filter"),
    "OptOut": ("optout", "opt_out"),
}
"""The prefix of a type's ids, and its table."""


def _visible(eyes: Eyes, type_: str) -> list[Row]:
    """Return the rows of a type that the viewer may see (D27)."""
    prefix, table = _NODES[type_]
    admin = eyes.viewer.role is Role.ADMIN
    may: dict[str, Callable[[Row], bool]] = {
        "Person": lambda row: eyes.own_or_student(row["person_id"]),
        "Household": lambda row: eyes.sees_household(row["household_id"]),
        "School": lambda row: True,
        "BatchRun": lambda row: admin,
        "SavedFilter": lambda row: admin,
        "OptOut": eyes.sees_opt_out,
    }
    return [
        {**row, "id": f"{prefix}_{row[f'{table}_id']}", "__type": type_}
        for row in eyes.tables[table]
        if may[type_](row)
    ]


def _one(type_: str, column: str | None = None) -> Resolver:
    """Return a resolver that finds the object whose key the row holds, in a column named so or otherwise."""
    key = f"{_NODES[type_][1]}_id"
    return lambda eyes, row: _first(each for each in _visible(eyes, type_) if each[key] == row[column or key])


def _by_id(type_: str) -> Resolver:
    return lambda eyes, row, id: _first(each for each in _visible(eyes, type_) if each["id"] == id)


answers("Query.person")(_by_id("Person"))
answers("Query.household")(_by_id("Household"))
answers("Query.batchRun")(_by_id("BatchRun"))
answers("Enrollment.school", "DistrictAssignment.school")(_one("School"))
answers(
    "Viewer.person", "HouseholdMembership.person", "Change.person", "BatchExclusion.person", "BatchSample.person"
)(_one("Person"))  # fmt: skip
answers(
    "HouseholdMembership.household", "Change.household", "BatchExclusion.household", "BatchSample.household"
)(_one("Household"))  # fmt: skip
answers("Change.run")(_one("BatchRun"))
answers("BatchRun.reverts")(_one("BatchRun", "reverts_run_id"))


@answers("Query.node")
def _node(eyes: Eyes, row: Row, id: str) -> Row | None:
    return _first(each for type_ in _NODES for each in _visible(eyes, type_) if each["id"] == id)


# ── the top ─────────────────────────────────────────────────────────────────────────────────────


@answers("Query.viewer")
def _viewer(eyes: Eyes, row: Row) -> Row:
    why_not = eyes.why_not()
    return {
        "role": eyes.viewer.role,
        "person_id": eyes.me,
        "can_change_own_preferences": why_not is None,
        "why_not": why_not,
    }


@answers("Query.schools")
def _schools(eyes: Eyes, row: Row) -> list[Row]:
    return _sorted(_visible(eyes, "School"), "name", "school_id")


@answers("Query.contactReasons")
def _reasons(eyes: Eyes, row: Row) -> list[Row]:
    return _sorted(eyes.tables["contact_reason"], "bit")


@answers("Query.batchModes")
def _modes(eyes: Eyes, row: Row) -> list[Row]:
    names = ("code", "label", "description", "filter_kind", "filter_required")
    return [
        {**{name: getattr(owned.mode, name) for name in names}, "plugin": owned.plugin}
        for owned in eyes.host.modes.values()
    ]


@answers("Query.plugins")
def _plugins(eyes: Eyes, row: Row) -> list[Row]:
    names = ("name", "version", "distribution", "enabled", "hooks")
    return [{name: getattr(plugin, name) for name in names} for plugin in eyes.host.plugins]


@answers("Query.headRevision")
def _head(eyes: Eyes, row: Row) -> str:
    return str(eyes.tables["district"][0]["revision"])


@answers("Query.people")
def _people(eyes: Eyes, row: Row, first: int, after: str | None, filter: Any = None) -> Row:
    given = {name: value for name, value in (filter or {}).items() if value is not None}
    if not eyes.everything and {"audience", "withoutMessengerContact"} & given.keys():
        raise Forbidden("audience")
    rows = [row for row in _visible(eyes, "Person") if _wanted(eyes, row, given)]
    return page(eyes, rows, "last_name first_name person_id", first, after)


def _wanted(eyes: Eyes, person: Row, given: Row) -> bool:
    number = person["person_id"]
    places = eyes.active_rows("enrollment", person_id=number)
    if eyes.own(number):
        places += eyes.active_rows("district_assignment", person_id=number)
    names = (person["first_name"].lower(), person["last_name"].lower())
    enrolled = eyes.in_audience(number, "STUDENTS")
    tests: dict[str, Callable[[Any], bool]] = {
        "search": lambda text: all(any(n.startswith(w) for n in names) for w in text.lower().split()),
        "sourceId": lambda id: person["source_id"] == id,
        "schoolId": lambda id: any(f"school_{p['school_id']}" == id for p in places),
        "grade": lambda grade: any(same_grade(p["grade"], grade) for p in places if "grade" in p),
        "audience": lambda audience: eyes.in_audience(number, audience.value),
        "withoutMessengerContact": lambda flag: (
            enrolled and flag is not bool(eyes.reaching(student_id=number))
        ),
        "ids": lambda ids: person["id"] in ids,
    }
    return all(tests[name](value) for name, value in given.items())


@answers("Query.households")
def _households(eyes: Eyes, row: Row, first: int, after: str | None) -> Row:
    return page(eyes, _visible(eyes, "Household"), "name household_id", first, after)


@answers("Query.batchRuns")
def _runs(eyes: Eyes, row: Row, first: int, after: str | None) -> Row:
    return page(eyes, _visible(eyes, "BatchRun"), "batch_run_id", first, after, descending=True)


@answers("Query.savedFilters")
def _filters(eyes: Eyes, row: Row, kind: Any = None) -> list[Row]:
    rows = [row for row in _visible(eyes, "SavedFilter") if kind is None or row["kind"] == kind]
    return sorted(rows, key=lambda row: (row["kind"] == "CENSUS", row["name"]))


@answers("Query.batchOptions")
def _options(eyes: Eyes, row: Row, mode: str, scope: Any) -> Row:
    people = eyes.population(mode, scope)
    points = [c for c in eyes.tables["contact_point"] if c["person_id"] in people]
    homes = set().union(*map(eyes.households_of, people))
    phones = [h for h in eyes.tables["household"] if h["household_id"] in homes and h["phone"]]
    reachable = {kind: sum(c["kind"] == kind for c in points) for kind in KINDS}
    reachable[ContactPointKind.HOUSEHOLD_PHONE] = len(phones)
    return {
        "population": len(people),
        "cells": [_option(eyes, *cell, reachable[cell[0]], bool(people)) for cell in _matrix(eyes)],
    }


def _matrix(eyes: Eyes) -> list[tuple[ContactPointKind, str]]:
    return [(kind, r["code"]) for kind in KINDS for r in _sorted(eyes.tables["contact_reason"], "bit")]


def _option(eyes: Eyes, kind: ContactPointKind, reason: str, reachable: int, anybody: bool) -> Row:
    because = None if reachable else "Nobody selected has this contact point on record."
    if not anybody:
        because = "Nobody is selected. Widen the scope."
    if eyes.rows("disabled_cell", contact_point=kind, reason=reason):
        because = "The district has switched this cell off."
    return {
        "contact_point": kind, "reason": reason, "enabled": because is None, "because": because,
        "reachable": reachable,
    }  # fmt: skip


# ── people and households ───────────────────────────────────────────────────────────────────────


@answers("Person.active")
def _active_person(eyes: Eyes, person: Row) -> bool:
    return eyes.is_active_person(person["person_id"])


@answers("Person.contactPoints")
def _contact_points(eyes: Eyes, person: Row) -> list[Row]:
    rows = eyes.rows("contact_point", person_id=person["person_id"]) if eyes.own(person["person_id"]) else []
    return sorted(rows, key=lambda row: KINDS.index(row["kind"]))


@answers("Person.preferences")
def _preferences(eyes: Eyes, person: Row) -> list[Row]:
    key = {"person_id": person["person_id"]}
    if not eyes.own(person["person_id"]):
        return []
    values = {c["kind"]: c["value"] for c in eyes.rows("contact_point", **key)}
    stored = eyes.rows("preference", **key)
    return [
        _preference(eyes, channel, values.get(channel.contact_point), stored) for channel in PERSON_CHANNELS
    ]


@answers("Household.phone")
def _phone(eyes: Eyes, household: Row) -> str | None:
    """The phone, for those who live there (D27)."""
    shown = eyes.everything or household["household_id"] in eyes.own_households()
    return household["phone"] if shown else None


@answers("Household.preferences")
def _household_preferences(eyes: Eyes, household: Row) -> list[Row]:
    number = household["household_id"]
    if not eyes.everything and number not in eyes.own_households():
        return []
    stored = eyes.rows("household_preference", household_id=number)
    return [_preference(eyes, channel, household["phone"], stored) for channel in HOUSEHOLD_CHANNELS]


def _preference(eyes: Eyes, channel: Any, value: str | None, stored: list[Row]) -> Row:
    own = [row for row in stored if (row["contact_point"], row["method"]) == channel]
    on, chosen = (own[0]["reasons_on"], own[0]["reasons_chosen"]) if own else (0, 0)
    return {
        "contact_point": channel.contact_point, "method": channel.method, "value": value,
        "on": _codes(eyes, on), "chosen": _codes(eyes, chosen),
    }  # fmt: skip


def _codes(eyes: Eyes, mask: int) -> list[str]:
    return [row["code"] for row in _sorted(eyes.tables["contact_reason"], "bit") if mask >> row["bit"] & 1]


@answers("OptOut.reasons")
def _opt_out_reasons(eyes: Eyes, row: Row) -> list[str] | None:
    return None if row["reasons"] is None else _codes(eyes, row["reasons"])


@answers("Person.optOuts")
def _opt_outs(eyes: Eyes, person: Row) -> list[Row]:
    if not eyes.own(person["person_id"]):
        return []
    addresses = eyes.addresses(person["person_id"])
    return _sorted((o for o in _visible(eyes, "OptOut") if o["address"] in addresses), "opt_out_id")


def _dated(eyes: Eyes, table: str, key: str, row: Row, active_only: bool) -> list[Row]:
    rows = [{**each, "active": eyes.active(each)} for each in eyes.rows(table, **{key: row[key]})]
    return [each for each in rows if each["active"] or not active_only]


@answers("Person.households")
def _person_households(eyes: Eyes, person: Row, activeOnly: bool) -> list[Row]:
    rows = _dated(eyes, "household_member", "person_id", person, activeOnly)
    return _sorted(filter(eyes.sees_membership, rows), "household_member_id")


@answers("Household.members")
def _members(eyes: Eyes, household: Row, activeOnly: bool) -> list[Row]:
    rows = _dated(eyes, "household_member", "household_id", household, activeOnly)
    return _sorted(filter(eyes.sees_membership, rows), "household_member_id")


@answers("Person.enrollments")
def _enrollments(eyes: Eyes, person: Row, activeOnly: bool) -> list[Row]:
    if not eyes.own_or_student(person["person_id"]):
        return []
    rows = _dated(eyes, "enrollment", "person_id", person, activeOnly)
    return sorted(rows, key=lambda row: (-row["school_year"], row["enrollment_id"]))


@answers("Person.districtAssignments")
def _assignments(eyes: Eyes, person: Row, activeOnly: bool) -> list[Row]:
    rows = _dated(eyes, "district_assignment", "person_id", person, activeOnly)
    return _sorted(rows if eyes.own(person["person_id"]) else [], "district_assignment_id")


def _relationships(column: str) -> Resolver:
    def relationships(eyes: Eyes, person: Row, messengerOnly: bool) -> list[Row]:
        reached = eyes.reaching(**{column: person["person_id"]})
        rows = [
            {**row, "active": eyes.active(row)}
            for row in eyes.rows("relationship", **{column: person["person_id"]})
            if eyes.sees_relationship(row) and (not messengerOnly or row in reached)
        ]
        return _sorted(rows, "relationship_id")

    return relationships


answers("Person.contacts")(_relationships("student_id"))
answers("Person.students")(_relationships("contact_id"))


answers("Relationship.student")(_one("Person", "student_id"))
answers("Relationship.contact")(_one("Person", "contact_id"))


# ── history and runs ────────────────────────────────────────────────────────────────────────────


def _changes(eyes: Eyes, subject: str, number: int, member: int | None) -> Iterator[Row]:
    """Yield what each change set did to a person or household: of a household, where there is a member who counts, on
    those days alone on which they were an active member (D6)."""
    found: dict[int, list[Row]] = {}
    for row in eyes.rows("subject_change", subject=subject, subject_id=number):
        others = subject == "HOUSEHOLD" and row["kind"] == "MEMBERSHIP"
        if eyes.everything or (row["kind"] != "RELATIONSHIP" and not others):
            found.setdefault(row["revision"], []).append(row)
    for change_set in eyes.tables["change_set"]:
        rows = found.get(change_set["revision"])
        day = change_set["at"].astimezone(ZoneInfo(eyes.viewer.district.time_zone)).date()
        if rows and (member is None or number in eyes.households_of(member, day)):
            kinds = {row["kind"] for row in rows}
            yield {
                **change_set,
                "household": subject == "HOUSEHOLD",
                "subject_id": number,
                "person_id": number if subject == "PERSON" else None,
                "household_id": number if subject == "HOUSEHOLD" else None,
                "kinds": [kind for kind in ChangeKind if kind in kinds],
                "rows": [row for row in rows if row["kind"] == "PREFERENCES"],
            }


def _history_page(eyes: Eyes, rows: Iterable[Row], first: int | None, after: str | None) -> Row:
    return page(eyes, rows, "revision household subject_id", first, after, descending=True)


@answers("Person.history")
def _history_of_person(eyes: Eyes, person: Row, first: int | None = None, after: str | None = None) -> Row:
    """Their own, and that of the households of which they were a member; see D27 for the portal."""
    number = person["person_id"]
    rows: list[Row] = []
    if eyes.own(number):
        rows += _changes(eyes, "PERSON", number, None)
        for household in {m["household_id"] for m in eyes.rows("household_member", person_id=number)}:
            if eyes.everything or household in eyes.own_households():
                rows += _changes(eyes, "HOUSEHOLD", household, number)
    return _history_page(eyes, rows, first, after)


@answers("Household.history")
def _history_of_household(
    eyes: Eyes, household: Row, first: int | None = None, after: str | None = None
) -> Row:
    number = household["household_id"]
    seen = eyes.everything or number in eyes.own_households()
    rows = list(_changes(eyes, "HOUSEHOLD", number, None if eyes.everything else eyes.me)) if seen else []
    return _history_page(eyes, rows, first, after)


@answers("Change.revision")
def _revision(eyes: Eyes, change: Row) -> str:
    return str(change["revision"])


@answers("Change.actor")
def _actor(eyes: Eyes, change: Row) -> str:
    """Who did it; a portal user is told the role alone."""
    return str(change["actor"]) if eyes.everything else str(change["actor"]).split(":")[0]


def _channel_place(row: Row) -> tuple[int, int]:
    return KINDS.index(row["contact_point"]), list(Method).index(row["method"])


def _turned(column: str, on: bool) -> Resolver:
    def turned(eyes: Eyes, change: Row) -> list[Row]:
        return [
            {"contact_point": row["contact_point"], "method": row["method"], "on": on, "reason": code}
            for row in sorted(change["rows"], key=_channel_place)
            for code in _codes(eyes, row[column])
        ]

    return turned


answers("Change.turnedOn")(_turned("turned_on", True))
answers("Change.turnedOff")(_turned("turned_off", False))


@answers("BatchRun.progress")
def _progress(eyes: Eyes, run: Row) -> Row:
    return run


@answers("BatchProgress.planning")
def _planning(eyes: Eyes, run: Row) -> Row | None:
    """How far its plan is; of a run that is no longer PLANNING nothing, whatever its row says."""
    if run["status"] != "PLANNING" or run["planning_step"] is None:
        return None
    return {name: run[f"planning_{name}"] for name in ("step", "done", "total")}


@answers("BatchRun.results")
def _results(eyes: Eyes, run: Row) -> list[Row]:
    return _cells(eyes, eyes.rows("batch_cell", batch_run_id=run["batch_run_id"]))


@answers("BatchRun.forecast")
def _forecast(eyes: Eyes, run: Row) -> list[Row] | None:
    """As the plan foresaw it; nothing of a run that has no plan."""
    rows = eyes.rows("batch_forecast", batch_run_id=run["batch_run_id"])
    return _cells(eyes, rows) if rows else None


def _cells(eyes: Eyes, rows: list[Row]) -> list[Row]:
    cells = {(c["contact_point"], c["reason"]): c for c in rows}
    names = (
        "updated", "unchanged", "overwrote_chosen", "kept_chosen", "excluded", "left_alone", "people_affected"
    )  # fmt: skip
    results = []
    for kind, reason in _matrix(eyes):
        cell = cells.get((kind, reason), dict.fromkeys(names))
        setting = {None: "NO_CHANGE", True: "ON", False: "OFF"}[cell.get("turn_on")]
        results.append({**cell, "contact_point": kind, "reason": reason, "set": setting})
    return results


@answers("BatchRun.queuedBehind")
def _queued_behind(eyes: Eyes, run: Row) -> Row | None:
    """The last before it in the queue, else what works in the district; a plan is no part of it (D21)."""
    if run["status"] != "QUEUED" or run["plan_only"]:
        return None

    def place(each: Row) -> tuple[Any, int]:
        return each["queued_at"], each["batch_run_id"]

    others = [
        each for each in _visible(eyes, "BatchRun")
        if not each["plan_only"] and each["batch_run_id"] != run["batch_run_id"]
    ]  # fmt: skip
    before = [each for each in others if each["status"] == "QUEUED" and place(each) < place(run)]
    working = [each for each in others if each["status"] in ("PLANNING", "APPLYING")]
    return max(before, key=place) if before else max(working, key=place) if working else None


@answers("BatchRun.revertedBy")
def _reverted_by(eyes: Eyes, run: Row) -> Row | None:
    reverts = [each for each in _visible(eyes, "BatchRun") if each["reverts_run_id"] == run["batch_run_id"]]
    return max(reverts, key=itemgetter("batch_run_id")) if reverts else None


def _sum(eyes: Eyes, run: Row, column: str) -> int:
    return sum(cell[column] for cell in eyes.rows("batch_cell", batch_run_id=run["batch_run_id"]))


def _of_revert(column: str) -> Resolver:
    return lambda eyes, run: None if run["reverts_run_id"] is None else _sum(eyes, run, column)


answers("BatchRun.restored")(_of_revert("updated"))
answers("BatchRun.leftAlone")(_of_revert("left_alone"))


@answers("BatchRun.difference")
def _difference(eyes: Eyes, run: Row) -> Row | None:
    if run["left_population"] is None:
        return None
    return {
        "left_population": run["left_population"], "outdated": run["plan_outdated"],
        "chose_since": _sum(eyes, run, "left_alone"), "excluded_since": _sum(eyes, run, "excluded_since"),
    }  # fmt: skip


@answers("BatchRun.samples")
def _samples(eyes: Eyes, run: Row, first: int = 10) -> list[Row]:
    if not 1 <= first <= eyes.max_first:
        raise InvalidArgument("first")
    rows = eyes.rows("batch_sample", batch_run_id=run["batch_run_id"])
    places = {row["place"]: row for row in rows if row["place"] <= first}
    return [
        {
            **row, "rows": [each for each in rows if each["place"] == place],
            "person_id": None if row["household"] else row["subject_id"],
            "household_id": row["subject_id"] if row["household"] else None,
        }
        for place, row in sorted(places.items())
    ]  # fmt: skip


@answers("BatchSample.cells")
def _sample_cells(eyes: Eyes, sample: Row) -> list[Row]:
    return [
        {
            "contact_point": kind,
            "reason": reason,
            "set": "ON" if reason in _codes(eyes, row["turned_on"]) else "OFF",
        }
        for kind, reason in _matrix(eyes)
        for row in sample["rows"]
        if row["contact_point"] == kind and reason in _codes(eyes, row["turned_on"] | row["turned_off"])
    ]


_RULE_WORDS = ("code", "because", "remedy")


@answers("BatchRun.exclusions")
def _exclusions(eyes: Eyes, run: Row, first: int | None = None, after: str | None = None) -> Row:
    key = {"batch_run_id": run["batch_run_id"]}
    rules = {rule["rule_no"]: rule for rule in eyes.rows("batch_rule", **key)}
    rows = [
        _exclusion(row, rules[row["rule_no"]], reason)
        for row in eyes.rows("batch_exclusion", **key)
        for reason in eyes.tables["contact_reason"]
        if row["reasons"] >> reason["bit"] & 1
    ]
    columns = "block place bit"
    return page(eyes, rows, columns, first, after, longest=10_000)


@answers("BatchRun.excludedByRule")
def _excluded_by_rule(eyes: Eyes, run: Row) -> list[Row]:
    key = {"batch_run_id": run["batch_run_id"]}
    blocks = eyes.rows("batch_exclusion_block", **key)
    told: dict[str, Row] = {}
    for rule in sorted(eyes.rows("batch_rule", **key), key=itemgetter("rule_no")):
        name = f"{rule['plugin']}.{rule['rule']}"
        mine = [block for block in blocks if block["rule_no"] == rule["rule_no"]]
        cells = sum(len(block["subject_ids"]) * block["reasons"].bit_count() for block in mine)
        if mine:
            before = told[name]["excluded"] if name in told else 0
            told[name] = {
                "rule": name, "excluded": before + cells, **{word: rule[word] for word in _RULE_WORDS},
            }  # fmt: skip
    return sorted(told.values(), key=lambda row: (-row["excluded"], row["rule"]))


def _exclusion(row: Row, rule: Row, reason: Row) -> Row:
    return {
        **row,
        "person_id": None if row["household"] else row["subject_id"],
        "household_id": row["subject_id"] if row["household"] else None,
        "bit": reason["bit"], "reason": reason["code"], "rule": f"{rule['plugin']}.{rule['rule']}",
        **{word: row[word] or rule[word] for word in _RULE_WORDS},
    }  # fmt: skip


@answers("SavedFilter.matches")
def _matches(eyes: Eyes, row: Row) -> int:
    return len(eyes.matching(row["criteria"]) or ())
