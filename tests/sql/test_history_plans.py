"""Histories and the plans of reverts read of the log what concerns them, however much else happened in the district."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gql_server.db.statements import bind, execute, statement
from gql_server.domain.sql import Sql
from tests.support.builder import DistrictBuilder
from tests.support.log import BUCKET, history_of

pytestmark = pytest.mark.slow

PEOPLE, RUNS, WRITES = 4_096, 60, 3_000

FILL = (
    # A run a change set, over everybody, each the other way than the one before.
    "with b as materialized ("
    " select bucket_of(id) as bucket, array_agg(id order by id) as ids"
    " from generate_series(1, $2::bigint) id group by 1)"
    " insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids, "
    " turned_on, turned_off, reasons, lowest_id, highest_id)"
    " select $1, run, 'PERSON', bucket, 'PREFERENCES', 'CELL_PHONE', 'VOICE', ids,"
    " case when run % 2 = 1 then '{1}'::bigint[] end,"
    " case when run % 2 = 0 then '{1}'::bigint[] end, 1, ids[1], ids[cardinality(ids)]"
    " from generate_series(1, $3::bigint) run cross join b",
    # Single writes of another reason, among the people of the first bucket and everybody.
    "insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids, turned_on,"
    " reasons, lowest_id, highest_id)"
    " select $1, $3 + n, 'PERSON', bucket_of(id), 'PREFERENCES', 'CELL_PHONE', 'VOICE', array[id], '{2}', 2, id, id"
    " from (select n, case when n % 2 = 0 then 1 + n % 1000 else 1 + n * 7919 % $2::bigint end as id"
    " from generate_series(1, $4::bigint) n) w",
)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def log_rows(plan: dict[str, Any]) -> int:
    """Return how many rows of the log a plan has looked at, those that it threw away among them."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))
        * node["Actual Loops"]
        for node in nodes(plan)
        if node.get("Relation Name") == "change"
    )  # fmt: skip


@pytest.fixture
async def full(district: DistrictBuilder) -> DistrictBuilder:
    conn = district.conn
    await conn.execute(FILL[0], district.id, PEOPLE, RUNS)
    await conn.execute(FILL[1], district.id, PEOPLE, RUNS, WRITES)
    await conn.execute(
        "insert into batch_run (district_id, mode, scope, requested_by, status)"
        " select $1, 'STUDENTS', '{}', 'ADMIN', 'DONE' from generate_series(1, $2)", district.id, RUNS,
    )  # fmt: skip
    await conn.execute(
        "insert into change_set (district_id, revision, source, actor, batch_run_id)"
        " select $1, n, 'BATCH', 'ADMIN', case when n <= $2 then n end from generate_series(1, $3) n",
        district.id, RUNS, RUNS + WRITES,
    )  # fmt: skip
    await conn.execute(
        "insert into person (district_id, first_name, last_name)"
        " select $1, 'P', n::text from generate_series(1, $2) n",
        district.id,
        PEOPLE,
    )
    home = await district.household(7, 8)
    await conn.execute(
        "insert into change (district_id, revision, subject, bucket, kind, contact_point, method,"
        " subject_ids, turned_on, reasons, lowest_id, highest_id)"
        " select $1, n, 'HOUSEHOLD', bucket_of($3), 'PREFERENCES', 'HOUSEHOLD_PHONE',"
        " 'VOICE', array[$3], '{1}', 1, $3, $3 from generate_series(1, $2::bigint) n", district.id, RUNS, home,
    )  # fmt: skip
    await conn.execute("update district set revision = $2 where district_id = $1", district.id, RUNS + WRITES)
    return district


async def explain(district: DistrictBuilder, query: Sql, **args: object) -> dict[str, Any]:
    text, values = bind(query, district_id=district.id, **args)
    answer = await district.conn.fetchval(f"explain (analyze, buffers, format json) {text}", *values)
    plan: dict[str, Any] = json.loads(answer)[0]["Plan"]
    return plan


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("person", [7, 900])
async def test_a_page_of_history_reads_what_is_on_it(
    full: DistrictBuilder, analyzed: bool, person: int
) -> None:
    """The newest changes of a person, and of a household of theirs, are found by the index on the bucket, from the
    newest on: the single writes of others in the bucket, and older runs, are not looked at (D28)."""
    if analyzed:
        await full.conn.execute("analyze")
    plan = await explain(full, history_of(person), time_zone="UTC", nodes=22, up_to=None)
    # PostgreSQL sorts by groups of 32 rows at least.
    assert log_rows(plan) <= 33 * (2 if person == 7 else 1)
    read = [node for node in nodes(plan) if node.get("Relation Name") == "change"]
    assert {node["Node Type"] for node in read} <= {"Index Scan", "Index Only Scan"}
    assert {node["Index Name"] for node in read} == {"change_bucket"}


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize(("begin", "end"), [("2020-01-01", "2020-01-31"), ("2029-12-01", None)])
async def test_a_page_of_history_reads_of_a_household_the_days_of_membership(
    full: DistrictBuilder, analyzed: bool, begin: str, end: str | None
) -> None:
    """A household's changes after a person has left it, and before they came, are not looked at (D6, D28)."""
    conn, person = full.conn, 3_000
    home = await full.household(person)
    await conn.execute(
        "update household_member set start_date = $2::text::date, end_date = $3::text::date where household_id = $1",
        home, begin, end,
    )  # fmt: skip
    # One change a day, from the first day of 2020 on.
    await conn.execute(
        "update change_set set at = '2020-01-01 12:00+00'::timestamptz + interval '1 day' * (revision - 1)"
    )
    await conn.execute(
        "insert into change (district_id, revision, subject, bucket, kind, contact_point, method,"
        " subject_ids, turned_on, reasons, lowest_id, highest_id)"
        " select $1, n, 'HOUSEHOLD', bucket_of($3), 'PREFERENCES', 'HOUSEHOLD_PHONE',"
        " 'VOICE', array[$3], '{1}', 1, $3, $3 from generate_series(1, $2::bigint) n", full.id, RUNS + WRITES, home,
    )  # fmt: skip
    if analyzed:
        await conn.execute("analyze")
    plan = await explain(full, history_of(person), time_zone="UTC", nodes=22, up_to=None)
    # PostgreSQL sorts by groups of 32 rows at least.
    assert log_rows(plan) <= 33 * 2


@pytest.mark.parametrize("every", [BUCKET, 3])
async def test_a_row_that_names_others_is_seen_to_do_so_without_another_read(
    district: DistrictBuilder, every: int
) -> None:
    """Of runs that leave out one person of the bucket, or every third, with a mask for each of the others, no more is
    read for a person left out than the rows themselves: the ids are in them (D28)."""
    conn, person, rows = district.conn, 500, 300
    await conn.execute(
        "insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,"
        " turned_on, turned_off, chosen, reasons, lowest_id, highest_id)"
        " select $1, n, 'PERSON', 0, 'PREFERENCES', 'CELL_PHONE', 'VOICE', ids, ids, ids, ids, 1023, ids[1],"
        " ids[cardinality(ids)] from generate_series(1, $4) n, (select array_agg(i order by i) as ids"
        " from generate_series(0::bigint, $3 - 1) i where (i - $2) % $5 <> 0) of",
        district.id, person, BUCKET, rows, every,
    )  # fmt: skip
    await conn.execute("insert into person (district_id, person_id, first_name, last_name)"
        " overriding system value values ($1, $2, 'A', 'B')", district.id, person)  # fmt: skip
    await conn.execute("vacuum analyze change")
    plan = await explain(district, history_of(person), time_zone="UTC", nodes=22, up_to=None)
    assert (plan["Actual Rows"], log_rows(plan)) == (0, rows)
    [scan] = [node for node in nodes(plan) if node.get("Relation Name") == "change" and log_rows(node)]
    assert scan["Shared Hit Blocks"] + scan["Shared Read Blocks"] <= rows * 1.1 + 10


async def test_the_place_of_an_id_is_found_in_any_ids(district: DistrictBuilder) -> None:
    """The search by halves finds what a search from the first to the last finds, at both ends too (D28)."""
    wrong = await district.conn.fetch(
        "select * from generate_series(0, 40) n"
        " cross join lateral (select array_agg(g order by g) as ids"
        " from generate_series(1::bigint, 60) g where g % 41 < n and (g * 7919 + n) % 3 > 0) of,"
        " generate_series(0::bigint, 61) id"
        " where place_of(ids, id) is distinct from array_position(ids, id)"
    )
    assert not wrong


@pytest.mark.parametrize("analyzed", [False, True])
async def test_the_plan_of_a_revert_reads_its_buckets_once(full: DistrictBuilder, analyzed: bool) -> None:
    """A run that changed the people of one bucket is reverted by reading the changes of this bucket since then, once,
    and those that the run itself made; single writes of other reasons are not unpacked (D29)."""
    if analyzed:
        await full.conn.execute("analyze")
    conn, run = full.conn, RUNS - 4
    await conn.execute("delete from change where revision = $1 and bucket <> 2 and subject = 'PERSON'", run)
    await conn.execute("delete from change where revision = $1 and subject = 'HOUSEHOLD'", run)
    since = await conn.fetchval("select count(*) from change where bucket = 2 and revision >= $1", run)
    async with conn.transaction():
        await execute(conn, "batch/revert/create_undone")
        plan = await explain(full, statement("batch/revert/fill_undone"), reverts_run_id=run)
        assert await conn.fetchval("select count(*) from undone") == BUCKET
        assert await conn.fetchval("select bit_and(touched) from undone") == 1  # by the four runs after it
    assert log_rows(plan) <= since + 2
    assert not [n for n in nodes(plan) if n.get("Relation Name") == "change" and n["Node Type"] == "Seq Scan"]
    unpacked = [n["Actual Loops"] for n in nodes(plan) if n["Node Type"] == "Function Scan"]
    assert sum(unpacked) <= 5
