"""Histories and the plans of reverts read of the log what concerns them, however much else happened in the district."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import bind, execute, statement
from gql_server.domain.viewer import Role
from gql_server.reads.executor import _parameter_values
from tests.support.builder import DistrictBuilder
from tests.support.graph import GraphClient

pytestmark = pytest.mark.slow

PEOPLE = int(os.environ.get("PEOPLE", 10_240))
RUNS = int(os.environ.get("RUNS", 200))
WRITES = int(os.environ.get("WRITES", 3_000))

FILL = (
    # A run a change set, over everybody, each the other way than the one before.
    "with b as materialized ("
    " select bucket_of(id) as bucket, array_agg(id order by id) as ids from generate_series(1, $2::bigint) id group by 1)"
    " insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids, turned_on,"
    " turned_off, reasons, lowest_id, highest_id)"
    " select $1, run, 'PERSON', bucket, 'PREFERENCES', 'CELL_PHONE', 'VOICE', ids, case when run % 2 = 1 then '{1}'::bigint[] end,"
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
        "insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids, turned_on,"
        " reasons, lowest_id, highest_id) select $1, n, 'HOUSEHOLD', bucket_of($3), 'PREFERENCES', 'HOUSEHOLD_PHONE',"
        " 'VOICE', array[$3], '{1}', 1, $3, $3 from generate_series(1, $2::bigint) n", district.id, RUNS, home,
    )  # fmt: skip
    await conn.execute("update district set revision = $2 where district_id = $1", district.id, RUNS + WRITES)
    return district
