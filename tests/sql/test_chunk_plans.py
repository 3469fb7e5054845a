"""What PostgreSQL makes of the statements of a chunk, which may use neither hash nor merge joins."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.db.statements import bind, fetch, statement
from gql_server.domain.sql import Sql
from tests.support.builder import DistrictBuilder

pytestmark = pytest.mark.slow

HOMES = 3_000


@pytest.fixture
async def homes(db: Pool, district: DistrictBuilder) -> AsyncIterator[Connection]:
    """A connection set as for a chunk, to a district of homes with two members each, all of which live in two."""
    for text in (
        "insert into person (district_id, first_name, last_name) select $1, 'P', n::text from generate_series(1, $2) n",
        "insert into household (district_id, name, phone) select $1, 'H', n::text from generate_series(1, $2) n",
        "insert into household_member (district_id, household_id, person_id)"
        " select $1, h.household_id, p.person_id from (select *, row_number() over () n from household) h"
        " join (select *, row_number() over () n from person) p on p.n in (h.n, h.n % $2 + 1)",
        "insert into change"
        " (district_id, revision, subject, bucket, kind, subject_ids, turned_on, lowest_id, highest_id)"
        " select $1, n, 'HOUSEHOLD', bucket_of(n), 'PREFERENCES', array[n], '{1}', n, n from generate_series(1, $2) n",
        "insert into change_set (district_id, revision, source, actor)"
        " select $1, n, 'ADMIN', 'ada' from generate_series(1, $2) n",
    ):
        await district.conn.execute(text, district.id, HOMES)
    async with db.acquire() as conn, conn.transaction():
        await fetch(conn, "batch/chunk/settings", lease_seconds=30.0)
        yield conn


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_people_are_counted_by_look_ups_alone(homes: Connection, analyzed: bool, mode: str) -> None:
    """With statistics or none, planned for all chunks or for one, no table and no list of people is read once for
    every person of a chunk: in a large district that would hold up every write for minutes (D17)."""
    for table in ("person", "household", "household_member", "change", "change_set"):
        if analyzed:
            await homes.execute(f"analyze {table}")
    changed = statement("batch/chunk/changed_households").having(revision=3)
    counted = statement("batch/count/people").fill(changed=changed, counts=Sql("batch_cell"))
    text, values = bind(counted, district_id=1, batch_run_id=1, today=None, revision=3)
    await homes.execute(f"set local plan_cache_mode = {mode}")
    await homes.execute(f"prepare counted as {text}")
    given = ", ".join("null" if value is None else str(value) for value in values)
    explained = await homes.fetchval(f"explain (format json) execute counted ({given})")
    await homes.execute("deallocate counted")
    found = list(nodes(json.loads(explained)[0]["Plan"]))
    scanned = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
    assert not scanned & {"household_member", "change", "change_set"}
    inner = [node for node in found if node.get("Parent Relationship") == "Inner"]
    assert not [node for node in inner if node.get("CTE Name") == "member"]
