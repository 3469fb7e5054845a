"""Folding the log beside runs and writes: what may be folded, and what a folded run can no longer do (D28, D29)."""

import asyncio

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.changes import Source
from gql_server.errors import Rejected
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.apply import apply_chunk
from gql_server.services.batch.plan import plan_run
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.log import fold
from tests.support.batch import CELL, EMAIL, Batches, actual, cells, replayed, working
from tests.support.builder import DistrictBuilder
from tests.support.stepping import claim

pytestmark = pytest.mark.slow


@pytest.fixture
async def people(district: DistrictBuilder) -> list[int]:
    school = await district.school()
    return [await district.student(school, f"S {n}", cell_phone=f"1{n}", email=f"s{n}@x") for n in range(6)]


async def begins(district: DistrictBuilder) -> int:
    return int(
        await district.conn.fetchval("select log_begins from district where district_id = $1", district.id)
    )


@pytest.mark.usefixtures("people")
async def test_a_folded_run_cannot_be_reverted(db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
    """It says so, and nothing is written; a run of which nothing was folded is reverted as ever (D29)."""
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        first = await batches.run(*cells(CELL, "EMERGENCY"))
        mark = await district.conn.fetchval(
            "select revision from district where district_id = $1", district.id
        )
        second = await batches.run(*cells(EMAIL, "GENERAL"))
        assert await fold(db, district.id, mark) == mark + 1 == await begins(district)
        before = await actual(district)
        with pytest.raises(Rejected, match="too old to be reverted") as refused:
            await batches.revert(first)
        assert [error.code for error in refused.value.errors] == ["TOO_OLD_TO_REVERT"]
        assert (await batches.row(first))["status"] == "DONE"
        assert await actual(district) == before
        await batches.revert(second)
    assert await actual(district) == {key: masks for key, masks in before.items() if key[2] == CELL}
    assert await replayed(district, folded=True) == await actual(district)


async def test_what_an_unfinished_run_did_is_not_folded(
    db: Pool, host: PluginHost, district: DistrictBuilder, people: list[int]
) -> None:
    """A run that is being applied may still be cancelled, and is then undone by the log (D21, D28)."""
    batches = Batches(db, host, district, BatchWorker(db, host, chunk_size=3, poll_seconds=0.05))
    for n in range(3):
        await batches.choose(people[n], CELL, on=("GENERAL",), source=Source.ADMIN)
    before = await actual(district)
    run = await batches.run(*cells(CELL, "EMERGENCY"), wait=0)
    held = await claim(db)
    await plan_run(db, host, held, chunk_size=3)
    await apply_chunk(db, held, lease_seconds=30)
    assert await fold(db, district.id, 1_000) == 4
    await batches.cancel(run)
    assert await fold(db, district.id, 1_000) == 4
    async with working(batches.worker):
        assert (await batches.ended(run))["status"] == "REVERTED"
    assert await actual(district) == before
    assert await replayed(district, folded=True) == before


async def test_folding_beside_writers_loses_nothing(
    db: Pool, host: PluginHost, district: DistrictBuilder, people: list[int]
) -> None:
    """While four callers write and two fold, no change is lost, and the log replays to the preferences (D28)."""
    batches = Batches(db, host, district, BatchWorker(db, host))

    for person in people[:3]:
        await batches.choose(person, CELL, on=("STAFF",), source=Source.ADMIN)

    async def writes(reason: str) -> None:
        for n in range(12):
            turned = {"on" if n % 2 == 0 else "off": (reason,)}
            await batches.choose(people[n % 3], CELL, source=Source.ADMIN, **turned)

    async def folds() -> None:
        for _ in range(6):
            revision = await district.conn.fetchval("select max(revision) from district")
            await fold(db, district.id, revision)

    await asyncio.gather(*map(writes, ("EMERGENCY", "GENERAL", "ATTENDANCE", "PRIORITY")), folds())
    await asyncio.gather(*(fold(db, district.id, 1_000) for _ in range(2)))
    assert await replayed(district, folded=True) == await actual(district)
    assert await begins(district) == 1 + await district.conn.fetchval("select max(revision) from district")
