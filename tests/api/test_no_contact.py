"""No-contact in a batch: judged by the relationships through which a person was selected (D31)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.domain.ids import IdKind, encode_id
from gql_server.hooks import BatchMode, BatchScope, FilterKind, Population, Sql, hookimpl
from gql_server.hooks.host import PluginHost
from gql_server.hooks.people import active
from gql_server.services.batch.request import ScopeInput
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, HOUSEHOLD, OFF, Batches, cells, working
from tests.support.builder import ENDED, DistrictBuilder

pytestmark = pytest.mark.slow

EMERGENCY, GENERAL = "EMERGENCY", "GENERAL"
CONTACTS = "STUDENT_CONTACTS"
NINTH = ScopeInput(grades=("09",))


@pytest.fixture
async def batches(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[Batches]:
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        yield Batches(db, host, district, worker)


@pytest.fixture
async def students(district: DistrictBuilder) -> list[int]:
    """A student of grade 9, whom the tests select, and one of grade 10, whom they do not."""
    school = await district.school()
    return [await district.student(school, grade="09"), await district.student(school, grade="10")]


async def test_only_the_relationships_to_selected_students_count(
    batches: Batches, district: DistrictBuilder, students: list[int]
) -> None:
    """A contact of two students is left out where only the one with a no-contact mark is selected, and counted; where
    both are, the contact is turned on (D31)."""
    contact = await district.person(cell_phone="1")
    await district.relate(students[0], contact, no_contact=True)
    await district.relate(students[1], contact)
    run = await batches.run(*cells(CELL, EMERGENCY), mode=CONTACTS, scope=NINTH)
    assert await district.on(contact, CELL) == []
    assert await batches.kept_out(run) == {("no_contact", False, contact, CELL, (EMERGENCY,))}
    assert (await batches.counts(run, CELL, EMERGENCY))["excluded"] == 1
    run = await batches.run(*cells(CELL, EMERGENCY), mode=CONTACTS)
    assert await district.on(contact, CELL) == [EMERGENCY]
    assert await batches.kept_out(run) == set()


@pytest.mark.parametrize(
    ("other", "left_out"),
    [
        ({}, False),
        ({"no_contact": True}, True),
        ({"messenger": False}, True),
        ({"dates": ENDED}, True),
    ],
    ids=["unmarked", "marked too", "no messenger", "ended"],
)
async def test_one_unmarked_relationship_is_enough(
    batches: Batches, district: DistrictBuilder, students: list[int], other: dict[str, bool], left_out: bool
) -> None:
    """Of two relationships to one selected student, the active messenger ones decide: one that is not marked is enough
    to be turned on (D6, D31)."""
    contact = await district.person(cell_phone="1")
    await district.relate(students[0], contact, no_contact=True)
    await district.relate(students[0], contact, **other)  # type: ignore[arg-type]
    await batches.run(*cells(CELL, EMERGENCY), mode=CONTACTS, scope=NINTH)
    assert await district.on(contact, CELL) == ([] if left_out else [EMERGENCY])


@pytest.mark.parametrize(
    ("second", "turned_on"),
    [
        ("a selected contact", True),
        ("a contact left out", False),
        ("a contact who is not selected", False),
        ("a selected contact who has moved out", False),
        ("the selected student", False),
    ],
)
async def test_a_household_is_reached_by_the_selected_people_who_live_there(
    batches: Batches, district: DistrictBuilder, students: list[int], second: str, turned_on: bool
) -> None:
    """A household phone is turned on only if a selected person who is an active member there is not left out; who else
    lives there does not matter (D31)."""
    marked, contact = await district.person("Mia Lane"), await district.person("Lee Lane")
    await district.relate(students[0], marked, no_contact=True)
    home = await district.household(marked, phone="1")
    elsewhere = await district.household(contact, phone="2")
    if second == "the selected student":
        await district.join(home, students[0])
    else:
        student = students[second == "a contact who is not selected"]
        await district.relate(student, contact, no_contact=second == "a contact left out")
        moved = second == "a selected contact who has moved out"
        await district.join(home, contact, dates=ENDED if moved else (None, None))
    if second != "a contact who is not selected":
        await district.relate(students[0], await district.person("Ida Roe", cell_phone="3"))
    run = await batches.run(*cells(HOUSEHOLD, EMERGENCY), mode=CONTACTS, scope=NINTH)
    assert await batches.household_on(home) == ([EMERGENCY] if turned_on else [])
    left_out = ("no_contact", True, home, HOUSEHOLD, (EMERGENCY,))
    assert (left_out in await batches.kept_out(run)) is not turned_on
    reached = second in ("a selected contact", "a selected contact who has moved out")
    assert await batches.household_on(elsewhere) == ([EMERGENCY] if reached else [])


async def test_turning_off_is_never_prevented(
    batches: Batches, district: DistrictBuilder, students: list[int]
) -> None:
    """OFF goes through for a person and a household whom nothing may be turned on for (D31)."""
    contact = await district.person(cell_phone="1")
    home = await district.household(contact, phone="1")
    await district.relate(students[0], contact, no_contact=True)
    await district.prefer(contact, CELL, on=(GENERAL,))
    await district.prefer_household(home, on=(GENERAL,))
    named = [cell for kind in (CELL, HOUSEHOLD) for cell in cells(kind, GENERAL, to=OFF)]
    run = await batches.run(*named, *cells(HOUSEHOLD, EMERGENCY), mode=CONTACTS, scope=NINTH)
    assert await district.on(contact, CELL) == []
    assert await batches.household_on(home) == []
    assert await batches.kept_out(run) == {("no_contact", True, home, HOUSEHOLD, (EMERGENCY,))}


async def test_what_keeps_them_out_has_words_a_code_and_a_remedy(
    batches: Batches, district: DistrictBuilder, students: list[int]
) -> None:
    """Who is left out is told why, with a code for programs, and what helps (D20, D31)."""
    contact = await district.person(cell_phone="1")
    await district.relate(students[0], contact, no_contact=True)
    run = await batches.run(*cells(CELL, EMERGENCY), mode=CONTACTS)
    row = await district.conn.fetchrow(
        "select r.code, r.because, r.remedy from batch_exclusion join batch_rule r"
        " using (district_id, batch_run_id, rule_no) where district_id = $1 and batch_run_id = $2",
        district.id, run,
    )  # fmt: skip
    assert row is not None
    assert tuple(row.values()) == (
        "NO_CONTACT",
        "Selected only through relationships that are marked no-contact.",
        "Reach another contact of the student instead.",
    )


async def test_a_mark_that_is_set_after_the_plan_counts(
    batches: Batches, district: DistrictBuilder, students: list[int]
) -> None:
    """When a plan is applied, the marks of that day decide (D20, D31)."""
    contact = await district.person(cell_phone="1")
    relationship = await district.relate(students[0], contact)
    run = await batches.run(*cells(CELL, EMERGENCY), mode=CONTACTS, dry_run=True)
    assert await batches.kept_out(run) == set()
    await district.conn.execute(
        "update relationship set no_contact = true where relationship_id = $1", relationship
    )
    await batches.apply(run)
    assert await district.on(contact, CELL) == []
    assert await batches.meanwhile(run, CELL, EMERGENCY) == (0, 1)


async def test_who_is_selected_otherwise_is_not_left_out(
    batches: Batches, district: DistrictBuilder, students: list[int]
) -> None:
    """A mark on a relationship does not keep a teacher out who is selected as staff (D11, D31)."""
    teacher = await district.person(cell_phone="1")
    await district.assign(teacher)
    await district.relate(students[0], teacher, no_contact=True)
    leaf = f'{{"field": "person", "is": "{encode_id(IdKind.PERSON, teacher)}"}}'
    scope = ScopeInput(filter_id=await batches.save_filter("CENSUS", leaf))
    await batches.run(*cells(CELL, EMERGENCY), mode="CENSUS_STAFF", scope=scope)
    assert await district.on(teacher, CELL) == [EMERGENCY]


class Modes:
    """Three modes of a district's own. Two select everybody's contacts, and one of them says through whom; the third
    selects the guardians, as the example in gql_server/hooks/README.md does."""

    @hookimpl
    def batch_modes(self) -> list[BatchMode]:
        codes = ("THROUGH", "PLAIN", "GUARDIANS")
        return [BatchMode(code, "A mode", "A mode.", FilterKind.STUDENT) for code in codes]

    @hookimpl
    def select_population(self, mode: str, scope: BatchScope) -> Population | None:
        people = Sql(
            "select contact_id as person_id, student_id from relationship r where district_id = :district_id"
        )
        guardians = Sql(f"{people.text} and guardian and {active('r')}")
        return {
            "THROUGH": Population(people, through_students=True),
            "PLAIN": Population(people),
            "GUARDIANS": Population(guardians, through_students=True),
        }.get(mode)


@pytest.fixture
async def own_modes(db: Pool, district: DistrictBuilder) -> AsyncIterator[Batches]:
    host = PluginHost([resource_folder("plugins")], given={"modes": Modes()})
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        yield Batches(db, host, district, worker)


@pytest.mark.parametrize(("mode", "turned_on"), [("THROUGH", False), ("PLAIN", True)])
async def test_any_mode_that_says_through_whom_is_judged(
    own_modes: Batches, district: DistrictBuilder, students: list[int], mode: str, turned_on: bool
) -> None:
    """No-contact marks hold in every mode that names the students through whom it selects (D11, D31)."""
    contact = await district.person(cell_phone="1")
    await district.relate(students[0], contact, no_contact=True)
    await own_modes.run(*cells(CELL, EMERGENCY), mode=mode)
    assert await district.on(contact, CELL) == ([EMERGENCY] if turned_on else [])


@pytest.mark.parametrize(
    ("others", "turned_on"),
    [
        ([], False),
        ([{"messenger": False}], False),
        ([{"messenger": True}], True),
        ([{"messenger": True, "dates": ENDED}], False),
        ([{"student": 1, "messenger": False}], True),
        ([{"student": 1, "messenger": False, "no_contact": True}], False),
        ([{"student": 1, "messenger": False, "guardian": False}], False),
    ],
    ids=[
        "the mark alone",
        "and unmarked, no messenger",
        "and a messenger contact",
        "and an ended messenger contact",
        "selected through another student too",
        "marked with another student too",
        "not selected through the other student",
    ],
)
async def test_a_mark_counts_in_a_mode_that_selects_other_than_messenger_contacts(
    own_modes: Batches,
    district: DistrictBuilder,
    students: list[int],
    others: list[dict[str, Any]],
    turned_on: bool,
) -> None:
    """A guardian who is no messenger contact and is marked no-contact is left out, with the household's phone, unless
    they are a messenger contact of the same student, or selected through another student without a mark (D31)."""
    guardian = await district.person(cell_phone="1")
    home = await district.household(guardian, phone="2")
    await district.relate(students[0], guardian, no_contact=True, messenger=False)
    for other in others:
        await district.relate(
            **{"student_id": students[other.pop("student", 0)], "contact_id": guardian, **other}
        )
    run = await own_modes.run(*cells(CELL, EMERGENCY), *cells(HOUSEHOLD, EMERGENCY), mode="GUARDIANS")
    assert await district.on(guardian, CELL) == ([EMERGENCY] if turned_on else [])
    assert await own_modes.household_on(home) == ([EMERGENCY] if turned_on else [])
    assert len(await own_modes.kept_out(run)) == (0 if turned_on else 2)


async def test_a_mark_that_has_ended_does_not_count(
    own_modes: Batches, district: DistrictBuilder, students: list[int]
) -> None:
    """A relationship that is marked no-contact and has ended leaves nobody out (D6, D31)."""
    guardian = await district.person(cell_phone="1")
    await district.relate(students[0], guardian, no_contact=True, dates=ENDED)
    await district.relate(students[0], guardian, messenger=False)
    await own_modes.run(*cells(CELL, EMERGENCY), mode="GUARDIANS")
    assert await district.on(guardian, CELL) == [EMERGENCY]
