"""Watching a run: by the poll, by signals of this process and of others, over lost connections."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.ids import IdKind, encode_id
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.signals import RunSignals
from gql_server.services.batch.watch import RunState, watch_run
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, Batches, admin, cells, hearing, working
from tests.support.builder import DistrictBuilder

PATIENCE, STUDENTS = 20, 40


@pytest.fixture
async def waiting(db: Pool, host: PluginHost, district: DistrictBuilder) -> tuple[Batches, str]:
    """A recorded run of many small chunks that no worker works yet."""
    school = await district.school()
    for n in range(STUDENTS):
        await district.student(school, cell_phone=str(n))
    batches = Batches(db, host, district, BatchWorker(db, host, chunk_size=2, poll_seconds=0.05))
    return batches, encode_id(IdKind.BATCH_RUN, await batches.run(*cells(CELL, "EMERGENCY"), wait=0))


async def test_a_run_of_another_process_is_seen_by_the_poll(
    db: Pool, district: DistrictBuilder, waiting: tuple[Batches, str]
) -> None:
    """Where no signal is heard, a run is watched to its end all the same."""
    batches, run = waiting
    states = watch_run(db, admin(district), run, RunSignals(db), poll_seconds=0.01)
    seen = [await anext(states)]
    async with working(batches.worker), asyncio.timeout(PATIENCE):
        seen += [state async for state in states]
    assert (seen[0].status, seen[-1].status) == ("QUEUED", "DONE")
    assert [state.done for state in seen] == sorted(state.done for state in seen)
    assert [state.at_rest for state in seen] == [*[False] * (len(seen) - 1), True]


async def test_a_signal_hastens_the_next_look(
    db: Pool, district: DistrictBuilder, waiting: tuple[Batches, str]
) -> None:
    """What a worker does is seen at once, however seldom the poll looks."""
    batches, run = waiting
    async with hearing(db) as signals:
        states = watch_run(db, admin(district), run, signals, poll_seconds=600)
        assert (await anext(states)).status == "QUEUED"
        following = asyncio.create_task(_last(states))
        await asyncio.sleep(0.1)  # it waits for a signal now
        async with working(batches.worker), asyncio.timeout(PATIENCE):
            assert (await following).status == "DONE"


async def _last(states: AsyncIterator[RunState]) -> RunState:
    return [state async for state in states][-1]


async def test_a_watch_outlasts_lost_connections(
    db: Pool, district: DistrictBuilder, waiting: tuple[Batches, str]
) -> None:
    """Connections that are cut while a run is watched delay what is told; the end is still seen."""
    batches, run = waiting
    states = watch_run(db, admin(district), run, RunSignals(db), poll_seconds=0.002)
    assert (await anext(states)).status == "QUEUED"
    following = asyncio.create_task(_last(states))
    for _ in range(10):
        await asyncio.sleep(0.02)
        await district.conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        assert not following.done()
    async with working(batches.worker), asyncio.timeout(PATIENCE):
        assert (await following).status == "DONE"
