"""Sample districts: the same for the same size and seed, with everything in them that a real one surprises with."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from gql_server.db.pool import connect
from gql_server.db.protocols import Connection
from gql_server.errors import Rejected
from gql_server.hooks.host import PluginHost
from gql_server.services.sample import SamplePeople, make_sample
from gql_server.services.sample.rows import COLUMNS

ACTIVE = "coalesce(x.start_date, 'today') <= 'today' and coalesce(x.end_date, 'today') >= 'today'"
TODAY = f"({ACTIVE})"

FEATURES = {
    "siblings share a household": f"""
        select 1 from household_member x
        join relationship r on (r.district_id, r.student_id) = (x.district_id, x.person_id)
        where x.district_id = $1 and {TODAY}
        group by x.household_id having count(distinct r.student_id) > 1""",
    "separated: a student lives in two households": f"""
        select 1 from household_member x join enrollment e using (district_id, person_id)
        where x.district_id = $1 and {TODAY}
        group by x.person_id having count(distinct x.household_id) = 2""",
    "a contact of several students": """
        select 1 from relationship where district_id = $1
        group by contact_id having count(distinct student_id) > 2""",
    "a contact of several families": """
        select 1 from relationship r join relationship other using (district_id, contact_id)
        join household_member mine on (mine.district_id, mine.person_id) = (r.district_id, r.student_id)
        where r.district_id = $1 and other.kind = 'Neighbor' and r.kind <> 'Neighbor'""",
    "an enrollment that is over": f"select 1 from enrollment x where district_id = $1 and not {TODAY}",
    "withdrawn: enrolled once, nowhere now": f"""
        select 1 from enrollment x where district_id = $1 group by person_id having not bool_or({TODAY})""",
    "transferred: one school left, another now": f"""
        select 1 from enrollment x where district_id = $1 and school_year = 2027
        group by person_id having bool_or({TODAY}) and not bool_and({TODAY})""",
    "an enrollment that is to come": """
        select 1 from enrollment where district_id = $1 and start_date > 'today'""",
    "two school years": """
        select 1 from enrollment where district_id = $1 having count(distinct school_year) = 2""",
    "several schools, grades from the first to the last": """
        select 1 from enrollment where district_id = $1
        having count(distinct school_id) = 6 and min(grade) = '01' and max(grade) = 'KG'""",
    "a membership that is over": f"""
        select 1 from household_member x where district_id = $1 and not {TODAY}""",
    "a household that nobody lives in any more": f"""
        select 1 from household_member x where district_id = $1 group by household_id having not bool_or({TODAY})""",
    "a relationship that is over": """
        select 1 from relationship where district_id = $1 and end_date < 'today' and messenger""",
    "a relationship that is to come": """
        select 1 from relationship where district_id = $1 and start_date > 'today'""",
    "a no-contact relationship with the messenger flag": """
        select 1 from relationship where district_id = $1 and no_contact and messenger""",
    "a student without a messenger contact": f"""
        select 1 from relationship x where district_id = $1
        group by student_id having not bool_or(messenger and not no_contact and {TODAY})""",
    "staff who are parents": f"""
        select 1 from district_assignment x
        join relationship r on (r.district_id, r.contact_id) = (x.district_id, x.person_id)
        where x.district_id = $1 and {TODAY}""",
    "an assignment that is over": f"""
        select 1 from district_assignment x where district_id = $1 and not {TODAY}""",
    "an assignment at the district office": """
        select 1 from district_assignment where district_id = $1 and school_id is null""",
    "two assignments of one person": """
        select 1 from district_assignment where district_id = $1 group by person_id having count(*) > 1""",
    "a school without the portal option": """
        select 1 from school where district_id = $1 having bool_or(portal_contact_information)
        and not bool_and(portal_contact_information)""",
    "a household without a phone": "select 1 from household where district_id = $1 and phone is null",
    "a home phone that is the household's": """
        select 1 from contact_point c join household_member m using (district_id, person_id)
        join household h using (district_id, household_id)
        where c.district_id = $1 and c.kind = 'HOME_PHONE' and c.value = h.phone""",
    "an opt-out of everything": """
        select 1 from opt_out o join contact_point c on (c.district_id, c.value) = (o.district_id, o.address)
        where o.district_id = $1 and reasons is null and lifted_at is null""",
    "an opt-out of some reasons": """
        select 1 from opt_out where district_id = $1 and reasons <> 0 and lifted_at is null""",
    "an opt-out that was lifted": "select 1 from opt_out where district_id = $1 and lifted_at is not null",
    "own choices, on": """
        select 1 from preference where district_id = $1 and reasons_chosen & reasons_on <> 0 and method <> 'TEXT'""",
    "own choices, off": """
        select 1 from preference where district_id = $1 and reasons_chosen & ~reasons_on <> 0""",
    "texts, only where chosen": """
        select 1 from preference where district_id = $1 and method = 'TEXT'
        having count(*) > 0 and bool_and(reasons_on = reasons_chosen)""",
    "household preferences with own choices": """
        select 1 from household_preference where district_id = $1 and reasons_chosen <> 0""",
    "a person with no preferences at all": """
        select 1 from person p where district_id = $1 and not exists (
          select from preference f where (f.district_id, f.person_id) = (p.district_id, p.person_id))
        and exists (select from contact_point c where (c.district_id, c.person_id) = (p.district_id, p.person_id))""",
    "every combination of missing contact points": """
        select 1 from (
          select array_agg(c.kind order by c.kind) filter (where c.kind is not null) as kinds
          from person p left join contact_point c using (district_id, person_id)
          where p.district_id = $1 group by p.person_id) of_person
        having count(distinct coalesce(kinds, '{}')) = 32""",
    "the reason STAFF only for staff": """
        select 1 from preference f join contact_reason r on r.district_id = f.district_id and r.code = 'STAFF'
        where f.district_id = $1 and f.reasons_on >> r.bit & 1 = 1
        having bool_and(exists (select from district_assignment a
          where (a.district_id, a.person_id) = (f.district_id, f.person_id)))""",
}


@pytest.fixture(scope="module")
async def sample(
    fresh_database: Callable[[], AbstractAsyncContextManager[str]], host: PluginHost
) -> AsyncIterator[tuple[Connection, int, SamplePeople]]:
    """A district of 300 students, in a database of its own."""
    async with fresh_database() as dsn, connect(dsn) as conn:
        people = await make_sample(conn, host, code="oak", students=300, seed=7)
        yield conn, await conn.fetchval("select district_id from district where code = 'oak'"), people


@pytest.mark.parametrize("feature", FEATURES)
async def test_a_sample_has(sample: tuple[Connection, int, SamplePeople], feature: str) -> None:
    """Every case that rules and reads must cope with occurs in a small district (D1-D10)."""
    conn, district_id, _ = sample
    assert await conn.fetchval(f"select exists ({FEATURES[feature]})", district_id)


async def test_the_log_replays_to_the_preferences(sample: tuple[Connection, int, SamplePeople]) -> None:
    """The one change set, applied to nothing, gives exactly the preferences, chosen bits too (D28)."""
    conn, district_id, _ = sample
    differing = await conn.fetchval(
        """
        with replayed as (
          select subject::text, subject_id, contact_point, method,
            bit_or(turned_on) as reasons_on, bit_or(chosen) as reasons_chosen
          from subject_change where district_id = $1 and revision = 1 and kind = 'PREFERENCES'
          group by 1, 2, 3, 4
        ),
        actual as (
          select 'PERSON' as subject, person_id as subject_id, contact_point, method, reasons_on, reasons_chosen
          from preference where district_id = $1
          union all
          select 'HOUSEHOLD', household_id, contact_point, method, reasons_on, reasons_chosen
          from household_preference where district_id = $1
        )
        select count(*) from (
          (table replayed except all table actual) union all (table actual except all table replayed)) d
        """,
        district_id,
    )
    assert differing == 0
    sets = await conn.fetch(
        "select revision, source, actor from change_set where district_id = $1", district_id
    )
    assert [tuple(row.values()) for row in sets] == [(1, "IMPORT", "SAMPLE")]
    assert await conn.fetchval("select revision from district where district_id = $1", district_id) == 1


async def test_the_people_to_try_with_are_good_examples(sample: tuple[Connection, int, SamplePeople]) -> None:
    """The guardian has two students and lives with three others; the student is one of them; the staff member works."""
    conn, district_id, people = sample
    students = await conn.fetch(
        "select s.source_id from relationship r join person s on s.person_id = r.student_id"
        " join person c on c.person_id = r.contact_id where r.messenger and not r.no_contact"
        " and c.district_id = $1 and c.source_id = $2",
        district_id, people.guardian,
    )  # fmt: skip
    assert people.student in [row["source_id"] for row in students]
    assert len(students) == 2
    members = await conn.fetchval(
        "select count(*) from household_member m join household_member mine using (household_id)"
        " join person p on p.person_id = mine.person_id where p.district_id = $1 and p.source_id = $2",
        district_id, people.guardian,
    )  # fmt: skip
    assert members == 4
    assert await conn.fetchval(
        f"select exists (select from district_assignment x join person p using (district_id, person_id)"
        f" where p.district_id = $1 and p.source_id = $2 and {TODAY})",
        district_id, people.staff,
    )  # fmt: skip


async def test_the_counts_are_true(sample: tuple[Connection, int, SamplePeople]) -> None:
    """What the generator says it wrote is what is there."""
    conn, district_id, people = sample
    for table, count in people.counts.items():
        assert (
            await conn.fetchval(f"select count(*) from {table} where district_id = $1", district_id) == count
        )
    students = await conn.fetchval(
        "select count(distinct person_id) from enrollment where district_id = $1", district_id
    )
    assert students == 300


async def rows_of(conn: Connection, code: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every generated row of a district, ids replaced by their order, and the log."""
    district_id = await conn.fetchval("select district_id from district where code = $1", code)
    rows = {}
    logs = {
        f"(select * from subject_change where subject = '{subject}') c": ("subject_id", "turned_on", "chosen")
        for subject in ("PERSON", "HOUSEHOLD")
    }
    for table, columns in {**COLUMNS, **logs}.items():
        shown = [
            f"dense_rank() over (order by {name})" if name.endswith("_id") and name != "source_id" else name
            for name in columns
        ]
        records = await conn.fetch(
            f"select {', '.join(shown)} from {table} where district_id = $1 order by {', '.join(columns)}",
            district_id,
        )
        rows[table] = [tuple(record.values()) for record in records]
    return rows


async def test_a_seed_makes_one_district(dsn: str, host: PluginHost) -> None:
    """The same size and seed give the same rows in the same order, beside other districts; another seed does not."""
    async with connect(dsn) as conn:
        for code, seed in (("one", 3), ("other", 4), ("again", 3)):
            await make_sample(conn, host, code=code, students=90, seed=seed)
        one, other, again = [await rows_of(conn, code) for code in ("one", "other", "again")]
    assert one == again
    assert all(one[table] != other[table] for table in ("person", "contact_point", "preference"))


async def test_a_sample_only_fills_an_empty_district(dsn: str, host: PluginHost) -> None:
    """A district with people is refused and stays as it is; one left empty by a generator that was killed is filled."""
    async with connect(dsn) as conn:
        await make_sample(conn, host, code="oak", students=1, seed=1)
        with pytest.raises(Rejected) as rejected:
            await make_sample(conn, host, code="oak", students=5, seed=1)
        assert [error.code for error in rejected.value.errors] == ["DISTRICT_NOT_EMPTY"]
        assert await conn.fetchval("select count(*) from person where source_id like 'S%'") == 1
        with pytest.raises(Rejected):
            await make_sample(conn, host, code="elm", students=0, seed=1)


async def test_progress_is_told(dsn: str, host: PluginHost) -> None:
    """Long work says how far it is, and ends with all of it."""
    told: list[str] = []
    async with connect(dsn) as conn:
        people = await make_sample(conn, host, code="oak", students=2_100, seed=1, report=told.append)
    assert told == ["2,000 of 2,100 students", "2,100 of 2,100 students"]
    assert people.counts["person"] > 4_000
