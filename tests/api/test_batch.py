"""The batch: who is selected, who is left out, what is written and counted (D3, D5, D6, D11-D20)."""

from collections.abc import AsyncIterator

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.ids import IdKind, encode_id
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.request import ScopeInput
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, EMAIL, HOUSEHOLD, OFF, WORK, Batches, cells, working
from tests.support.builder import ENDED, FUTURE, PAST, YEAR, DistrictBuilder

EMERGENCY, STAFF = "EMERGENCY", "STAFF"


@pytest.fixture
async def batches(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[Batches]:
    """Batches of a district, with a worker whose chunks hold two people."""
    async with working(BatchWorker(db, host, chunk_size=2, poll_seconds=0.05)) as worker:
        yield Batches(db, host, district, worker)


async def selected(batches: Batches, mode: str, scope: ScopeInput | None = None) -> int:
    """Run a batch on the cell phone and return how many people it selected."""
    run = await batches.row(await batches.run(*cells(CELL, EMERGENCY), mode=mode, scope=scope))
    assert run["status"] == "DONE", run["errors"]
    return int(run["population"])


async def test_students_are_those_enrolled_today(batches: Batches, district: DistrictBuilder) -> None:
    """STUDENTS selects each student with an active enrollment once; ended, future and former years do not count
    (D6, D11, D12)."""
    school = await district.school()
    await district.insert("calendar", school_id=school, school_year=YEAR - 1)
    ada = await district.student(school, "Ada", cell_phone="1")
    await district.enroll(ada, school, "10")
    for dates in (ENDED, (FUTURE, None)):
        away = await district.person("Away", cell_phone="2")
        await district.enroll(away, school, dates=dates)
    former = await district.person("Former", cell_phone="3")
    await district.enroll(former, school, year=YEAR - 1)
    assert await selected(batches, "STUDENTS") == 1
    assert await district.on(ada, CELL) == [EMERGENCY]
    assert await district.on(former, CELL) == []


async def test_a_day_belongs_to_what_begins_or_ends_on_it(
    batches: Batches, district: DistrictBuilder
) -> None:
    """Start and end are included in what is active (D6)."""
    school, today = await district.school(), district.district.today()
    for dates in ((today, None), (None, today), (today, today), (PAST, FUTURE)):
        await district.enroll(await district.person(cell_phone="1"), school, dates=dates)
    assert await selected(batches, "STUDENTS") == 4


async def test_the_scope_narrows_schools_years_and_grades(
    batches: Batches, district: DistrictBuilder
) -> None:
    """Schools, school year and grades narrow a student mode, together (D12)."""
    high, low = await district.school("High"), await district.school("Low")
    await district.insert("calendar", school_id=high, school_year=YEAR - 1)
    for school, grade in ((high, "09"), (high, "10"), (low, "09")):
        await district.student(school, grade=grade, cell_phone="1")
    repeater = await district.person(cell_phone="2")
    await district.enroll(repeater, high, "09", year=YEAR - 1)
    only_high = (encode_id(IdKind.SCHOOL, high),)
    assert await selected(batches, "STUDENTS") == 3
    assert await selected(batches, "STUDENTS", ScopeInput(school_ids=only_high)) == 2
    assert await selected(batches, "STUDENTS", ScopeInput(grades=("09", "9"))) == 2
    assert await selected(batches, "STUDENTS", ScopeInput(school_ids=only_high, grades=("09",))) == 1
    assert await selected(batches, "STUDENTS", ScopeInput(school_year=YEAR - 1)) == 1


async def test_the_current_year_is_the_districts(batches: Batches, district: DistrictBuilder) -> None:
    """The current year is the newest with an enrollment active today, in the district, not in the school (D12)."""
    new, old = await district.school("New"), await district.school("Old", year=YEAR - 1)
    await district.student(new, cell_phone="1")
    await district.enroll(await district.person(cell_phone="2"), old, year=YEAR - 1)
    scope = ScopeInput(school_ids=(encode_id(IdKind.SCHOOL, old),))
    assert await batches.codes(*cells(CELL, EMERGENCY), scope=scope) == ["NOBODY_SELECTED"]
    assert await selected(batches, "STUDENTS") == 1


async def test_contacts_are_reached_through_messenger_relationships(
    batches: Batches, district: DistrictBuilder
) -> None:
    """STUDENT_CONTACTS selects the contacts with an active messenger relationship to a selected student, each
    once (D8, D11)."""
    school = await district.school()
    first, second = await district.student(school), await district.student(school)
    mother = await district.person("Mo", cell_phone="1")
    for student in (first, second):
        await district.relate(student, mother)
    await district.relate(first, await district.person("No", cell_phone="2"), messenger=False)
    await district.relate(first, await district.person("Once", cell_phone="3"), dates=ENDED)
    gone = await district.person("Gone")
    await district.relate(gone, await district.person("Other", cell_phone="4"))
    assert await selected(batches, "STUDENT_CONTACTS") == 1
    assert await district.on(mother, CELL) == [EMERGENCY]


async def test_a_student_filter_speaks_of_the_students(batches: Batches, district: DistrictBuilder) -> None:
    """A saved filter narrows the students, in both student modes (D12)."""
    school = await district.school()
    for grade in ("09", "10"):
        student = await district.student(school, grade=grade, cell_phone="1")
        await district.relate(student, await district.person(cell_phone="2"))
    scope = ScopeInput(filter_id=await batches.save_filter("STUDENT", '{"field": "grade", "in": ["09"]}'))
    assert await selected(batches, "STUDENT_CONTACTS", scope) == 1
    assert await selected(batches, "STUDENTS", scope) == 1


async def test_staff_are_people_of_the_filter_with_an_assignment(
    batches: Batches, district: DistrictBuilder
) -> None:
    """CENSUS_STAFF selects the filter's people with an active assignment; schools narrow the assignments
    (D9, D11, D12)."""
    high, low = await district.school("High"), await district.school("Low")
    for school, title, dates in (
        (high, "Teacher", (None, None)),
        (low, "Teacher", (None, None)),
        (None, "Teacher", (None, None)),
        (high, "Nurse", (None, None)),
        (high, "Teacher", ENDED),
    ):
        await district.assign(await district.person(cell_phone="1"), school, title, dates)
    everyone = await batches.save_filter("CENSUS", '{"field": "hasContactPoint", "is": "CELL_PHONE"}')
    teachers = await batches.save_filter("CENSUS", '{"field": "assignmentTitle", "is": "Teacher"}')
    assert await selected(batches, "CENSUS_STAFF", ScopeInput(filter_id=everyone)) == 4
    assert await selected(batches, "CENSUS_STAFF", ScopeInput(filter_id=teachers)) == 3
    narrowed = ScopeInput(school_ids=(encode_id(IdKind.SCHOOL, high),), filter_id=teachers)
    assert await selected(batches, "CENSUS_STAFF", narrowed) == 1


async def test_cells_not_named_stay(batches: Batches, district: DistrictBuilder) -> None:
    """Only the cells named change; ON and OFF may be mixed; TEXT is never touched (D13, D14)."""
    student = await district.student(await district.school(), cell_phone="1", email="a@x.example")
    await district.prefer(student, CELL, on=("ATTENDANCE", "GENERAL"))
    await district.prefer(student, CELL, on=("ATTENDANCE",), method=Method.TEXT)
    await district.prefer(student, EMAIL, on=("FOOD_SERVICE",))
    await batches.run(*cells(CELL, EMERGENCY), *cells(CELL, "ATTENDANCE", to=OFF))
    assert await district.on(student, CELL) == [EMERGENCY, "GENERAL"]
    assert await district.on(student, CELL, Method.TEXT) == ["ATTENDANCE"]
    assert await district.on(student, EMAIL) == ["FOOD_SERVICE"]


async def test_emails_are_set_by_email(batches: Batches, district: DistrictBuilder) -> None:
    """A batch sets an email by EMAIL (D2, D14)."""
    student = await district.student(await district.school(), email="a@x.example")
    await batches.run(*cells(EMAIL, "TEACHER"))
    assert await district.on(student, EMAIL, Method.EMAIL) == ["TEACHER"]


async def test_people_without_the_contact_point_are_left_out_and_counted(
    batches: Batches, district: DistrictBuilder
) -> None:
    """ON and OFF both leave out who has no such contact point on record (D16)."""
    school = await district.school()
    with_phone = await district.student(school, cell_phone="1")
    without = await district.student(school, email="a@x.example")
    await district.prefer(without, CELL, on=("GENERAL",))
    run = await batches.run(*cells(CELL, EMERGENCY), *cells(CELL, "GENERAL", to=OFF))
    assert await district.on(with_phone, CELL) == [EMERGENCY]
    assert await district.on(without, CELL) == ["GENERAL"]
    counts = await batches.counts(run, CELL, EMERGENCY)
    assert (counts["updated"], counts["excluded"]) == (1, 1)
    assert await batches.kept_out(run) == {("on_record", False, without, CELL, (EMERGENCY, "GENERAL"))}


async def test_the_household_phone_belongs_to_the_household(
    batches: Batches, district: DistrictBuilder
) -> None:
    """The household cell applies once to each household in which a selected person is an active member, and the
    result says how many people that is (D5, D17)."""
    school = await district.school()
    sam, sue = await district.student(school, "Sam"), await district.student(school, "Sue")
    parent, former = await district.person("Parent"), await district.person("Former")
    home = await district.household(sam, sue, parent, phone="1")
    await district.join(home, former, dates=ENDED)
    second = await district.household(sam, parent, name="Second", phone="2")
    left = await district.household(name="Left", phone="3")
    await district.join(left, sam, dates=ENDED)
    without = await district.household(sue, name="Without")
    run = await batches.run(*cells(HOUSEHOLD, EMERGENCY))
    assert await batches.household_on(home) == await batches.household_on(second) == [EMERGENCY]
    assert await batches.household_on(left) == await batches.household_on(without) == []
    counts = await batches.counts(run, HOUSEHOLD, EMERGENCY)
    assert (counts["updated"], counts["excluded"], counts["people_affected"]) == (2, 1, 3)
    assert (await batches.row(run))["total"] == 2


async def test_people_of_two_households_count_once_whichever_chunks_change_them(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """Each bit counts a person once in all of a run, whether their households change in one chunk or in several, and
    the counts of a plan and of a revert are those of the run (D17, D29)."""
    school = await district.school()
    sam, parent = await district.student(school), await district.person()
    first = await district.household(sam, parent, await district.person(), phone="1")
    second = await district.household(sam, phone="2")
    third = await district.household(sam, parent, phone="3")
    await district.prefer_household(first, on=("GENERAL",))
    named = cells(HOUSEHOLD, EMERGENCY, "GENERAL")

    async def affected(run: int, *, foreseen: bool = False) -> list[int]:
        counts = [await batches.counts(run, HOUSEHOLD, cell.reason, foreseen=foreseen) for cell in named]
        return [count["people_affected"] for count in counts]

    async with working(BatchWorker(db, host, chunk_size=1, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        plan = await batches.run(*named, dry_run=True)
        assert await affected(plan, foreseen=True) == [3, 2]
        run = await batches.run(*named)
        assert [
            home
            for home in (first, second, third)
            if await batches.household_on(home) == [EMERGENCY, "GENERAL"]
        ]
        assert await affected(run) == [3, 2]
        assert (await batches.row(run))["chunks_done"] == 3
        assert await affected(await batches.revert(run)) == [3, 2]


async def test_people_affected_counts_changed_households_only(
    batches: Batches, district: DistrictBuilder
) -> None:
    """For the household phone, people in households that were already as asked do not count (D17, D20)."""
    school = await district.school()
    calm = await district.household(await district.student(school), phone="1")
    await district.household(await district.student(school), await district.person(), phone="2")
    await district.prefer_household(calm, on=(EMERGENCY,))
    run = await batches.run(*cells(HOUSEHOLD, EMERGENCY, "GENERAL"))
    assert (await batches.counts(run, HOUSEHOLD, EMERGENCY))["people_affected"] == 2
    assert (await batches.counts(run, HOUSEHOLD, "GENERAL"))["people_affected"] == 3


async def test_choices_are_overwritten_and_counted(batches: Batches, district: DistrictBuilder) -> None:
    """What people chose is overwritten and ceases to be chosen; a choice that is as asked stays one (D18)."""
    school = await district.school()
    against, alike = (
        await district.student(school, cell_phone="1"),
        await district.student(school, cell_phone="2"),
    )
    await district.prefer(against, CELL, chosen=(EMERGENCY,))
    await district.prefer(alike, CELL, on=(EMERGENCY,), chosen=(EMERGENCY,))
    run = await batches.run(*cells(CELL, EMERGENCY))
    counts = await batches.counts(run, CELL, EMERGENCY)
    assert counts == {
        "updated": 1, "unchanged": 1, "overwrote_chosen": 1, "kept_chosen": 0, "excluded": 0, "people_affected": 1
    }  # fmt: skip
    chosen = "select reasons_chosen from preference where person_id = $1"
    assert await district.conn.fetchval(chosen, against) == 0
    assert await district.conn.fetchval(chosen, alike) == 1


async def test_choices_are_kept_where_asked(batches: Batches, district: DistrictBuilder) -> None:
    """With keep_chosen, a choice that differs is left alone and counted (D18)."""
    school = await district.school()
    chooser, other = (
        await district.student(school, cell_phone="1"),
        await district.student(school, cell_phone="2"),
    )
    await district.prefer(chooser, CELL, on=("GENERAL",), chosen=(EMERGENCY, "GENERAL"))
    run = await batches.run(*cells(CELL, EMERGENCY), *cells(CELL, "GENERAL", to=OFF), keep_chosen=True)
    assert await district.on(chooser, CELL) == ["GENERAL"]
    assert await district.on(other, CELL) == [EMERGENCY]
    emergency, general = [await batches.counts(run, CELL, reason) for reason in (EMERGENCY, "GENERAL")]
    assert (emergency["updated"], emergency["kept_chosen"]) == (1, 1)
    assert (general["updated"], general["unchanged"], general["kept_chosen"]) == (0, 1, 1)


async def test_an_opt_out_is_never_turned_on(batches: Batches, district: DistrictBuilder) -> None:
    """ON stops at a legal opt-out of the address, method and reason; OFF passes, and the record stays (D19, D34)."""
    school = await district.school()
    stopped, partly, lifted, texter = [
        await district.student(school, cell_phone=phone)
        for phone in ("555-0100", "555-0101", "555-0102", "555-0103")
    ]
    await district.prefer(stopped, CELL, on=("GENERAL",))
    await district.opt_out("555-0100", Method.VOICE)
    await district.opt_out("555-0101", Method.VOICE, ("ATTENDANCE",))
    back = await district.opt_out("555-0102", Method.VOICE)
    await district.conn.execute("update opt_out set lifted_at = now() where opt_out_id = $1", back)
    await district.opt_out("555-0103", Method.TEXT)
    run = await batches.run(*cells(CELL, EMERGENCY, "ATTENDANCE"), *cells(CELL, "GENERAL", to=OFF))
    assert await district.on(stopped, CELL) == []
    assert await district.on(partly, CELL) == [EMERGENCY]
    assert await district.on(lifted, CELL) == await district.on(texter, CELL) == [EMERGENCY, "ATTENDANCE"]
    assert await batches.kept_out(run) == {
        ("opt_outs", False, stopped, CELL, (EMERGENCY, "ATTENDANCE")),
        ("opt_outs", False, partly, CELL, ("ATTENDANCE",)),
    }
    assert await district.conn.fetchval("select count(*) from opt_out") == 4


async def test_an_opt_out_holds_for_a_household_phone(batches: Batches, district: DistrictBuilder) -> None:
    """The phone of a household may be opted out like any other (D19)."""
    school = await district.school()
    stopped = await district.household(await district.student(school), phone="555-0100")
    other = await district.household(await district.student(school), phone="555-0101")
    await district.opt_out("555-0100", Method.VOICE)
    await batches.run(*cells(HOUSEHOLD, EMERGENCY))
    assert await batches.household_on(stopped) == []
    assert await batches.household_on(other) == [EMERGENCY]


async def test_staff_messages_need_an_assignment(batches: Batches, district: DistrictBuilder) -> None:
    """STAFF is turned on only for people with an active district assignment, and for households with such a
    member; turning it off is free to all (D3)."""
    school = await district.school()
    parents = [await district.person(cell_phone=phone) for phone in ("1", "2", "3")]
    for parent in parents:
        await district.relate(await district.student(school), parent)
    await district.assign(parents[0])
    await district.assign(parents[1], dates=ENDED)
    await district.prefer(parents[2], CELL, on=("STAFF",))
    homes = [await district.household(parent, phone="4") for parent in parents]
    await batches.run(*cells(CELL, STAFF), *cells(HOUSEHOLD, STAFF), mode="STUDENT_CONTACTS")
    assert [await district.on(p, CELL) for p in parents] == [[STAFF], [], [STAFF]]
    assert [await batches.household_on(h) for h in homes] == [[STAFF], [], []]
    await batches.run(*cells(CELL, STAFF, to=OFF), mode="STUDENT_CONTACTS")
    assert [await district.on(p, CELL) for p in parents] == [[], [], []]


async def test_contacts_who_may_not_be_contacted_are_left_out(
    batches: Batches, district: DistrictBuilder
) -> None:
    """In STUDENT_CONTACTS nothing is turned on for people all of whose active messenger relationships are marked
    no-contact; OFF passes (D10)."""
    school = await district.school()
    barred, mixed = await district.person(cell_phone="1"), await district.person(cell_phone="2")
    await district.prefer(barred, CELL, on=("GENERAL",))
    first, second = await district.student(school), await district.student(school)
    await district.relate(first, barred, no_contact=True)
    await district.relate(second, barred, dates=ENDED)
    await district.relate(first, mixed, no_contact=True)
    await district.relate(second, mixed)
    named = (*cells(CELL, EMERGENCY), *cells(CELL, "GENERAL", to=OFF))
    run = await batches.run(*named, mode="STUDENT_CONTACTS")
    assert await district.on(barred, CELL) == []
    assert await district.on(mixed, CELL) == [EMERGENCY]
    assert await batches.kept_out(run) == {("no_contact", False, barred, CELL, (EMERGENCY,))}


async def test_one_cell_is_kept_out_by_one_rule(batches: Batches, district: DistrictBuilder) -> None:
    """Where several rules deny a cell, the first in the host's order has it: the counts add up (D16, D20)."""
    school = await district.school()
    people = [await district.person(cell_phone=str(n)) for n in range(5)] + [await district.person()]
    for person in people:
        await district.relate(await district.student(school), person, no_contact=person == people[0])
    await district.opt_out("0", Method.VOICE)
    await district.opt_out("1", Method.VOICE)
    await district.opt_out("1", Method.VOICE, (STAFF,))
    await district.prefer(people[2], CELL, on=(EMERGENCY,))
    await district.prefer(people[3], CELL, chosen=(EMERGENCY,))
    run = await batches.run(*cells(CELL, EMERGENCY, STAFF), mode="STUDENT_CONTACTS", keep_chosen=True)
    assert await batches.kept_out(run) == {
        ("no_contact", False, people[0], CELL, (EMERGENCY, STAFF)),
        ("opt_outs", False, people[1], CELL, (EMERGENCY, STAFF)),
        *(("staff_reason", False, person, CELL, (STAFF,)) for person in people[2:5]),
        ("on_record", False, people[5], CELL, (EMERGENCY, STAFF)),
    }
    for reason in (EMERGENCY, STAFF):
        counts = await batches.counts(run, CELL, reason)
        parts = ("updated", "unchanged", "kept_chosen", "excluded")
        assert sum(counts[part] for part in parts) == len(people)


async def test_a_second_run_changes_nothing(batches: Batches, district: DistrictBuilder) -> None:
    """A batch that finds everything as asked updates nothing, and takes no revision (D20, D28)."""
    school = await district.school()
    for n in range(5):
        await district.household(await district.student(school, cell_phone=str(n)), phone=str(n))
    named = (*cells(CELL, EMERGENCY), *cells(HOUSEHOLD, EMERGENCY))
    await batches.run(*named)
    revision = await district.conn.fetchval("select revision from district")
    run = await batches.run(*named)
    assert (await batches.counts(run, CELL, EMERGENCY))["unchanged"] == 5
    assert (await batches.counts(run, HOUSEHOLD, EMERGENCY))["people_affected"] == 0
    assert await district.conn.fetchval("select revision from district") == revision


async def test_progress_counts_people_and_households(batches: Batches, district: DistrictBuilder) -> None:
    """Done and total count each person once however many channels are set, and each household once (D20)."""
    school = await district.school()
    for n in range(5):
        await district.household(
            await district.student(school, cell_phone=str(n), work_phone="9"), phone=str(n)
        )
    run = await batches.row(
        await batches.run(*cells(CELL, EMERGENCY), *cells(WORK, EMERGENCY), *cells(HOUSEHOLD, EMERGENCY))
    )
    assert (run["status"], run["population"], run["total"], run["done"]) == ("DONE", 5, 10, 10)
    assert run["finished_at"] is not None
    assert run["lease_owner"] is None
    assert await district.conn.fetchval("select count(*) from batch_target") == 0


async def test_another_district_is_not_touched(
    batches: Batches, db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A batch selects, reads and writes its own district alone, though the other has the same addresses."""
    async with db.acquire() as conn:
        other = await DistrictBuilder.create(conn, host, "birch")
        theirs = await other.student(await other.school(), cell_phone="1")
        await other.opt_out("1", Method.VOICE)
        await other.insert("disabled_cell", contact_point=CELL, reason=EMERGENCY)
        ours = await district.student(await district.school(), cell_phone="1")
        assert await selected(batches, "STUDENTS") == 1
        assert await district.on(ours, CELL) == [EMERGENCY]
        assert await other.on(theirs, CELL) == []
        assert await other.conn.fetchval("select revision from district where code = 'birch'") == 0


async def test_every_contact_point_can_be_set(batches: Batches, district: DistrictBuilder) -> None:
    """One run may name every contact point, with different settings (D1, D13)."""
    values = {kind.lower(): kind for kind in ContactPointKind if kind is not HOUSEHOLD}
    student = await district.student(await district.school(), **values)
    await district.household(student, phone="1")
    run = await batches.run(*(cell for kind in ContactPointKind for cell in cells(kind, EMERGENCY)))
    for kind in ContactPointKind:
        assert (await batches.counts(run, kind, EMERGENCY))["updated"] == 1
    off = await batches.run(*(cell for kind in ContactPointKind for cell in cells(kind, EMERGENCY, to=OFF)))
    assert (await batches.counts(off, HOUSEHOLD, EMERGENCY))["updated"] == 1
