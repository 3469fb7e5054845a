"""What PostgreSQL makes of the statements of a chunk, which may use neither hash nor merge joins."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.db.statements import bind, fetchrow, statement
from gql_server.domain.sql import Sql
from gql_server.services.changes import log_slots, table_slots
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
        await open_chunk(conn)
        yield conn


async def open_chunk(conn: Connection) -> None:
    """Set a transaction up as that of a chunk, of a run of its own."""
    await conn.execute(
        "insert into batch_run (district_id, batch_run_id, mode, scope, status, requested_by, lease_owner)"
        " overriding system value values (1, 1, 'STUDENTS', '{}', 'APPLYING', 'ada', 'me')"
        " on conflict do nothing"
    )
    key = {"district_id": 1, "batch_run_id": 1, "lease_owner": "me"}
    row = await fetchrow(conn, "batch/chunk/open", **key, lease_seconds=30.0, channel="test")
    assert row is not None


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


async def plan_of(conn: Connection, sql: Sql, mode: str, **args: object) -> list[dict[str, Any]]:
    """Return the nodes of a statement's plan, made for any values (a generic plan) or for these."""
    text, values = bind(sql, **args)
    await conn.execute(f"set local plan_cache_mode = {mode}")
    await conn.execute(f"prepare planned as {text}")
    given = ", ".join("null" if value is None else f"'{value}'" for value in values)
    explained = await conn.fetchval(f"explain (format json) execute planned ({given})")
    await conn.execute("deallocate planned")
    return list(nodes(json.loads(explained)[0]["Plan"]))


@pytest.fixture
async def preferences(db: Pool, district: DistrictBuilder, request: Any) -> AsyncIterator[Connection]:
    """A connection to a district of as many people with preferences as asked, and a target of them all."""
    people = request.param
    for text in (
        "insert into person (district_id, first_name, last_name) select $1, 'P', n::text from generate_series(1, $2) n",
        "insert into preference (district_id, person_id, contact_point, method)"
        " select $1, p.person_id, c::contact_point_kind, 'VOICE' from (select * from person limit $2) p"
        " cross join unnest(array['CELL_PHONE', 'WORK_PHONE']) c",
        "insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, bucket, changes,"
        " state, subjects, channels, subject_ids, places, on_masks, was_on, was_chosen, turned_on)"
        " select $1, 1, 1, false, contact_point, method, bucket_of(person_id), true, state, $2, count(*),"
        " array_agg(person_id order by person_id), array_agg(p.ctid order by person_id), '{1}', '{0}', '{0}', '{1}'"
        " from preference p, unnest('{PLANNED,CHANGED}'::target_state[]) state"
        " group by contact_point, method, bucket_of(person_id), state",
    ):
        await district.conn.execute(text, district.id, people)
    async with db.acquire() as conn:
        yield conn


@pytest.mark.parametrize("preferences", [1, 10, 10_000], indirect=True)
@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_a_chunk_locks_its_rows_in_key_order(
    preferences: Connection, analyzed: bool, mode: str
) -> None:
    """Whatever the size of a chunk and the statistics, its rows are sorted by their keys and found one by one in this
    order, by their place; those that were changed are locked in the order of their keys, by their key, and read so."""
    conn = preferences
    if analyzed:
        await conn.execute("vacuum analyze preference, batch_target")
    key = {"district_id": 1, "batch_run_id": 1, "chunk": 1}
    async with conn.transaction():
        await open_chunk(conn)
        write = statement("batch/write_chunk").fill(**log_slots(False))
        rest = {
            "state": "PLANNED",
            "household": False,
            "subjects": 1,
            "keep_chosen": False,
            "source": "BATCH",
        }
        found = await plan_of(conn, write, mode, **key, **rest, actor="ada")
        update = next(
            node
            for node in found
            if node.get("Operation") == "Update" and node["Relation Name"] == "preference"
        )
        (join,) = update["Plans"]
        outer, inner = join["Plans"]
        assert (join["Node Type"], inner["Node Type"], inner["Relation Name"]) == (
            "Nested Loop",
            "Tid Scan",
            "preference",
        )
        assert [node["Node Type"] for node in nodes(outer)][:2] == ["Subquery Scan", "Sort"]

        now = statement("batch/chunk/changed_now").fill(**table_slots(False)).having(**key, reverts=True)
        decided = statement("batch/decide").fill(channel=now).having(keep_chosen=False)
        again = statement("batch/plan/write_targets").fill(decided=decided)
        key_only = {name: key[name] for name in ("district_id", "batch_run_id")}
        found = await plan_of(conn, again, mode, **key_only, household=False, state="LOCKED", chunks=0)
        reads = [node for node in found if node.get("Relation Name") == "preference"]
        assert [node["Node Type"] for node in reads] == ["Index Scan"]

        lock = statement("batch/chunk/lock").fill(**table_slots(False))
        found = await plan_of(conn, lock, mode, **key)
        assert [node["Node Type"] for node in found if "Join" in node["Node Type"]] == []
        reads = [node for node in found if node.get("Relation Name") == "preference"]
        assert [(node["Node Type"], node["Index Name"]) for node in reads] == [
            ("Index Scan", "preference_pkey")
        ]
        for used in ("Sort", "LockRows"):
            assert [node["Node Type"] for node in found].count(used) == 1
        (loop,) = (
            node
            for node in found
            if node["Node Type"] == "Nested Loop"
            and any(each["Node Type"] == "LockRows" for each in nodes(node["Plans"][1]))
        )
        assert "Sort" in {node["Node Type"] for node in nodes(loop["Plans"][0])}
