"""Signals between servers: a run that one works is heard of in another, and a lost ear costs nothing but time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from gql_server.db.pool import Pool, connect
from gql_server.hooks.host import PluginHost
from gql_server.services.batch import signals as signals_module
from gql_server.services.batch.watch import watch_run
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, Batches, admin, cells, hearing, run_id, working
from tests.support.builder import DistrictBuilder
from tests.support.faults import ServerProcess
from tests.support.server import TestServer, serving
from tests.support.ws import PATIENCE, events, read_events

pytestmark = pytest.mark.slow

SELDOM = 3600
WATCH = "subscription ($id: ID!) { batchRun(id: $id) { status progress { done total } } }"
LISTENERS = "select array_agg(pid) from pg_stat_activity where datname = current_database() and query ilike 'listen %'"
STUDENTS = 20


@pytest.fixture
async def held(district: DistrictBuilder, db: Pool, host: PluginHost) -> int:
    """A run of many small chunks that waits for one which nobody works (D21)."""
    school = await district.school()
    for n in range(STUDENTS):
        await district.student(school, cell_phone=str(n))
    await district.conn.execute(
        "insert into batch_run (district_id, mode, scope, status, requested_by, lease_owner, lease_expires_at)"
        " values ($1, 'STUDENTS', '{}', 'PLANNING', 'ADMIN', 'another', now() + interval '1 hour')",
        district.id,
    )
    return await Batches(db, host, district, BatchWorker(db, host)).run(*cells(CELL, "EMERGENCY"), wait=0)


async def let_go(district: DistrictBuilder) -> None:
    """End the run that the other one waits for. No server knows: who works looks from time to time."""
    await district.conn.execute("update batch_run set status = 'DONE' where lease_owner = 'another'")


async def watched(server: TestServer, run: int, begun: Callable[[], Awaitable[None]]) -> list[Any]:
    """Return the states that a server tells of a run; `begun` is called after the first."""
    seen: list[Any] = []
    async with events(server, WATCH, {"id": run_id(run)}) as response, asyncio.timeout(PATIENCE):
        async for name, data in read_events(response):
            if name == "next":
                seen.append(data["data"]["batchRun"])
            if len(seen) == 1 and name == "next":
                await begun()
    return seen


async def listeners(district: DistrictBuilder, *, but: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Wait until somebody listens who did not before; return the processes of PostgreSQL that serve them."""
    async with asyncio.timeout(PATIENCE):
        while not (found := {*(await district.conn.fetchval(LISTENERS) or ())} - {*but}):
            await asyncio.sleep(0.01)
    return tuple(found)


async def cut(district: DistrictBuilder, pids: tuple[int, ...]) -> None:
    await district.conn.execute("select pg_terminate_backend(pid) from unnest($1::integer[]) pid", list(pids))


@asynccontextmanager
async def server_process(dsn: str, folder: Path, name: str, **settings: str) -> AsyncIterator[TestServer]:
    process = ServerProcess(dsn, folder, name, **settings)
    process.start()
    try:
        await process.up()
        async with aiohttp.ClientSession() as session:
            yield TestServer(f"http://127.0.0.1:{process.port}", session, "maple")
    finally:
        process.stop()


async def test_a_run_that_another_server_works_is_heard_of(
    dsn: str, tmp_path: Path, district: DistrictBuilder, held: int
) -> None:
    """A server that neither works a run nor polls it tells every state of it, by the other's notifications (D21)."""
    small = {"BATCH_CHUNK_SIZE": "1", "BATCH_WATCH_SECONDS": str(SELDOM)}
    async with (
        server_process(dsn, tmp_path, "idle", BATCH_POLL_SECONDS=str(SELDOM), **small) as idle,
        server_process(dsn, tmp_path, "busy", **small),
    ):
        seen = await watched(idle, held, lambda: let_go(district))
    assert (seen[0]["status"], seen[-1]["status"]) == ("QUEUED", "DONE")
    assert len({state["progress"]["done"] for state in seen}) > 2


@pytest.mark.parametrize("watch_seconds", [0.1, SELDOM])
async def test_a_lost_ear_grows_again(
    db: Pool, host: PluginHost, district: DistrictBuilder, held: int, watch_seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A listening connection that is cut while a run is watched is made anew, with one line in the log; the run is
    followed to its end with the poll, and without it."""
    monkeypatch.setattr(signals_module, "_PAUSE_SECONDS", 0.05)
    settings = {"batch_chunk_size": 1, "batch_watch_seconds": watch_seconds}

    async def disturb() -> None:
        first = await listeners(district)
        await cut(district, first)
        await listeners(district, but=first)
        await let_go(district)

    with structlog.testing.capture_logs() as logged:
        async with serving(db, host, "maple", **settings) as server:
            seen = await watched(server, held, disturb)
    assert (seen[0]["status"], seen[-1]["status"]) == ("QUEUED", "DONE")
    heard = [entry["event"] for entry in logged if "signals" in entry["event"]]
    assert heard == ["batch_signals_lost", "batch_signals_restored"]


async def test_where_nobody_can_listen_the_poll_goes_on(
    db: Pool, host: PluginHost, dsn: str, server_dsn: str, district: DistrictBuilder, held: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A listener that can have no connection for long logs that once; the run is watched to its end by the poll."""
    monkeypatch.setattr(signals_module, "_PAUSE_SECONDS", 0.02)
    name = await district.conn.fetchval("select current_database()")

    async def disturb() -> None:
        first = await listeners(district)
        async with connect(server_dsn.format(database="postgres")) as conn:
            await conn.execute(f'alter database "{name}" allow_connections false')
        await cut(district, first)
        await asyncio.sleep(0.5)
        await let_go(district)

    async with db.acquire(), db.acquire(), db.acquire(), db.acquire(), db.acquire():
        pass  # connections that are there when no more can be had
    with structlog.testing.capture_logs() as logged:
        async with serving(db, host, "maple", batch_chunk_size=1) as server:
            seen = await watched(server, held, disturb)
    assert seen[-1]["status"] == "DONE"
    assert [e["event"] for e in logged if "signals" in e["event"]] == ["batch_signals_lost"]


async def test_a_stopped_server_listens_no_more(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """The listening connection is gone as soon as the server has stopped."""
    async with serving(db, host, "maple"):
        assert len(await listeners(district)) == 1
    async with asyncio.timeout(1):
        while await district.conn.fetchval(LISTENERS):
            await asyncio.sleep(0.01)


async def test_every_end_of_a_run_is_heard(db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
    """Done, failed, cancelled, undone: without a poll each is heard by who watches (D29)."""
    school = await district.school()
    await district.student(school, cell_phone="1")
    batches = Batches(db, host, district, BatchWorker(db, host, poll_seconds=0.02))
    async with hearing(db) as signals:

        async def end(run: int, act: Callable[[], Awaitable[Any]]) -> str:
            states = watch_run(db, admin(district), run_id(run), signals, poll_seconds=SELDOM)
            seen = [await anext(states)]
            following = asyncio.ensure_future(_rest(states))
            await asyncio.sleep(0.1)
            await act()
            seen += await asyncio.wait_for(following, PATIENCE)
            return seen[-1].status

        async def worked() -> None:
            async with working(batches.worker):
                await asyncio.sleep(1)

        run = await batches.run(*cells(CELL, "EMERGENCY"), wait=0)
        assert await end(run, worked) == "DONE"
        revert = await batches.revert(run, wait=0)
        assert await end(run, lambda: batches.cancel(revert)) == "DONE"
        revert = await batches.revert(run, wait=0)
        assert await end(run, worked) == "REVERTED"
        assert (await batches.row(revert))["status"] == "DONE"
        cancelled = await batches.run(*cells(CELL, "EMERGENCY"), wait=0)
        assert await end(cancelled, lambda: batches.cancel(cancelled)) == "CANCELLED"
        failing = await batches.run(*cells(CELL, "EMERGENCY"), wait=0)
        await district.conn.execute("delete from contact_point")
        assert await end(failing, worked) == "FAILED"


async def _rest(states: AsyncIterator[Any]) -> list[Any]:
    return [state async for state in states]
