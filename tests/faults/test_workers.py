"""`serve` with several worker processes: one port, one server to its users, whatever dies."""

import asyncio
import errno
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from gql_server.cli.workers import serve
from gql_server.errors import ConfigurationError, Unavailable
from gql_server.settings import load_settings, worker_settings
from tests.support.batch import EMAIL
from tests.support.builder import DistrictBuilder
from tests.support.command import gql_server, refusal
from tests.support.faults import ServerProcess, free_port
from tests.support.server import KEY

pytestmark = pytest.mark.slow

PATIENCE = 30
SUBMIT = """mutation submit($input: BatchSetPreferencesInput!) {
  batchSetPreferences(input: $input) { run { id } userErrors { message } }
}"""
LOOK = "query look($id: ID!) { batchRun(id: $id) { status progress { done total } results { updated } } }"
WRITE = """mutation write($input: SetPreferencesInput!) {
  setPreferences(input: $input) { person { id } userErrors { code } }
}"""


@asynccontextmanager
async def several(dsn: str, folder: Path, workers: int = 2, **settings: str) -> AsyncIterator[ServerProcess]:
    """Run a server with so many workers, all of them up."""
    server = ServerProcess(dsn, folder, WORKERS=str(workers), **settings)
    server.start()
    try:
        await server.up()
        await until(lambda: "Serving on" in server.log)
        yield server
    finally:
        server.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.05)


def processes(server: ServerProcess) -> list[psutil.Process]:
    """Return the worker processes of a server that runs."""
    children = psutil.Process(server.pid).children()
    return [child for child in children if any("spawn_main" in part for part in child.cmdline())]


async def answering(server: ServerProcess, requests: int) -> set[int]:
    """Return the numbers of the workers that answer so many requests, each on a connection of its own."""
    numbers = set()
    for _ in range(requests):
        async with aiohttp.request("GET", f"http://127.0.0.1:{server.port}/readyz") as response:
            numbers.add((await response.json())["worker"])
    return numbers


async def test_workers_share_a_port(dsn: str, tmp_path: Path, district: DistrictBuilder) -> None:
    """New connections go to all workers, /readyz tells which, and together they hold no more database connections than
    a server with one process: the pool, and one that listens in each."""
    before = await connections(district)
    async with several(dsn, tmp_path, POOL_MAX_SIZE="4", POOL_MIN_SIZE="4") as server:
        async with asyncio.timeout(PATIENCE):
            assert await answering(server, 60) == {1, 2}
        assert await connections(district) - before <= 4 + 2


async def test_a_killed_worker_is_replaced_and_its_run_goes_on(
    dsn: str, tmp_path: Path, district: DistrictBuilder
) -> None:
    """SIGKILL of the worker that works a run loses nothing: another one takes the run over at the end of its lease,
    every cell is set once, and the killed process is replaced (D21, D28)."""
    school = await district.school()
    people = [await district.student(school, cell_phone=str(n)) for n in range(40)]
    async with several(dsn, tmp_path, BATCH_CHUNK_SIZE="1", BATCH_LEASE_SECONDS="1") as server:
        run = await submit(server)
        async with asyncio.timeout(PATIENCE):
            while not (await row(district))["done"]:
                await asyncio.sleep(0.005)
        owner = str((await row(district))["lease_owner"]).split(":")[1]
        os.kill(int(owner), signal.SIGKILL)
        state = await ended(server, run)
        await until(lambda: len(processes(server)) == 2 and "worker_replaced" in server.log)
        assert '"cause": "signal 9"' in server.log
    assert sum(cell["updated"] or 0 for cell in state["results"]) == len(people)


async def test_a_worker_that_the_system_refuses_is_tried_again(
    dsn: str, tmp_path: Path, district: DistrictBuilder
) -> None:
    """While the system gives no new files, a worker cannot be replaced. The others serve on, it is tried again until it
    can, and its end is logged once."""
    async with several(dsn, tmp_path) as server:
        parent, before = psutil.Process(server.pid), resource.getrlimit(resource.RLIMIT_NOFILE)
        parent.rlimit(psutil.RLIMIT_NOFILE, (1, before[1]))
        killed, other = processes(server)
        killed.kill()
        await until(lambda: server.log.count("worker_not_started") == 2)
        assert other.is_running()
        parent.rlimit(psutil.RLIMIT_NOFILE, before)
        await until(lambda: "worker_replaced" in server.log)
        assert server.log.count("worker_ended") == 1
        assert len(processes(server)) == 2


async def test_a_first_start_that_the_system_refuses_stops_the_others(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system refuses the second worker, the start ends with one error that says so, and the first is stopped."""
    start, started = SpawnProcess.start, list[SpawnProcess]()

    def refuse_second(process: SpawnProcess) -> None:
        if started:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started.append(process)
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", refuse_second)
    settings = load_settings(workers=2, signing_key=KEY, host="127.0.0.1", port=0)
    with pytest.raises(
        ConfigurationError, match=r"does not start worker 2: .*Resource temporarily unavailable"
    ):
        await serve(settings, dsn)
    assert not started[0].is_alive()


async def test_a_stop_waits_for_what_is_answered(dsn: str, tmp_path: Path, district: DistrictBuilder) -> None:
    """SIGTERM to the parent lets every worker answer its requests; then all processes end, with exit code 0."""
    person = await district.person(email="ada@example.org")
    await district.prefer(person, EMAIL, on=())
    async with several(dsn, tmp_path) as server:
        started = processes(server)
        async with district.conn.transaction():
            await district.conn.fetch("select from preference for update")
            cell = {"contactPoint": "EMAIL", "method": "EMAIL", "reason": "GENERAL", "on": True}
            writing = asyncio.create_task(
                server.ask("maple", WRITE, {"input": {"personId": f"person_{person}", "cells": [cell]}})
            )
            async with asyncio.timeout(PATIENCE):
                while not await waiting(district):
                    await asyncio.sleep(0.02)
            os.kill(server.pid, signal.SIGTERM)
            await asyncio.sleep(0.3)
        assert (await writing)["setPreferences"]["userErrors"] == []
        await server.gone()
        assert server.stop() == 0
        assert not [process for process in started if process.is_running()]


async def test_a_worker_that_hangs_is_killed_and_replaced(
    dsn: str, tmp_path: Path, district: DistrictBuilder
) -> None:
    """A worker whose process stands still is killed once it was silent for the time of the setting; the log says why,
    and another process takes its place. Its neighbor, which works, is left alone."""
    async with several(dsn, tmp_path, WORKER_SILENCE_TIMEOUT="3") as server:
        hung, other = processes(server)
        hung.suspend()
        await until(lambda: "worker_replaced" in server.log)
        assert '"reason": "It has said nothing for 3 s:' in server.log
        assert server.log.count("worker_killed") == 1
        assert not hung.is_running()
        assert other in processes(server)
        assert len(processes(server)) == 2


async def test_a_parent_that_stood_still_kills_nobody(dsn: str, tmp_path: Path) -> None:
    """Time in which the parent itself stood still, with its workers or alone, is nobody's silence."""
    async with several(dsn, tmp_path, WORKER_SILENCE_TIMEOUT="3") as server:
        workers = processes(server)
        for stopped in ([], workers):
            for process in stopped:
                process.suspend()
            server.freeze()
            await asyncio.sleep(4)
            server.thaw()
            await asyncio.sleep(0.2)
            for process in stopped:
                process.resume()
            await asyncio.sleep(1)
        assert processes(server) == workers
        assert "worker_killed" not in server.log


async def test_a_worker_that_does_not_come_up_is_given_up(dsn: str, tmp_path: Path) -> None:
    """A process that hangs while it starts, as in a plug-in that never finishes loading, is killed after the time of
    the setting, and tried again until one serves."""
    plugins, marker = tmp_path / "plugins", tmp_path / "hang"
    plugins.mkdir()
    hook = "from gql_server.hooks import hookimpl\n@hookimpl\ndef contact_reasons():\n    return []\n"
    hanging = f"import pathlib, time\nif pathlib.Path({str(marker)!r}).exists():\n    time.sleep(600)\n"
    (plugins / "hanging.py").write_text(hook + hanging)
    settings = {"PLUGINS_DIR": str(plugins), "WORKER_START_TIMEOUT": "20"}
    async with several(dsn, tmp_path, **settings) as server:
        marker.touch()
        processes(server)[0].kill()
        await until(lambda: "worker_not_started" in server.log)
        assert "GQL_SERVER_WORKER_START_TIMEOUT" in server.log
        marker.unlink()
        await until(lambda: "worker_replaced" in server.log)
        assert len(processes(server)) == 2


async def test_a_first_start_that_hangs_ends(dsn: str, tmp_path: Path) -> None:
    """If a worker does not come up when the server starts, the start ends with one line and no process is left."""
    (tmp_path / "hanging.py").write_text("import time\ntime.sleep(600)\n")
    settings = {
        "DATABASE_URL": dsn,
        "SIGNING_KEY": KEY,
        "PORT": str(free_port()),
        "PLUGINS_DIR": str(tmp_path),
    }
    limits = {"WORKER_START_TIMEOUT": "2", "STOP_TIMEOUT": "1"}
    told = await asyncio.to_thread(gql_server, "serve", "--workers", "2", settings={**settings, **limits})
    assert told.returncode == 1
    assert "Error: Worker 1 did not serve within 2 s" in told.stderr


async def test_a_stop_that_had_to_kill_a_worker_says_so(dsn: str, tmp_path: Path) -> None:
    """A worker that does not stop in time is killed, and the exit code is 1, as that of a single process would be."""
    async with several(dsn, tmp_path, STOP_TIMEOUT="1") as server:
        started = processes(server)
        started[0].suspend()
        os.kill(server.pid, signal.SIGTERM)
        await server.gone()
        assert server.stop() == 1
        assert "Error: Worker 1 did not stop within" in server.log or "Error: Worker 2" in server.log
        assert not [process for process in started if process.is_running()]


async def test_workers_do_not_outlive_their_parent(
    dsn: str, tmp_path: Path, district: DistrictBuilder
) -> None:
    """When the parent is killed with SIGKILL, its workers stop by themselves and leave the port."""
    async with several(dsn, tmp_path) as server:
        started = processes(server)
        server.kill()
        await until(lambda: not [process for process in started if process.is_running()])
        assert "parent_ended" in server.log


def test_a_port_in_use_ends_the_start(dsn: str, tmp_path: Path) -> None:
    """A port that another server has, one with workers too, is refused in one line before any worker is started."""

    async def refused() -> str:
        async with several(dsn, tmp_path) as server:
            settings = {"DATABASE_URL": dsn, "SIGNING_KEY": KEY, "PORT": str(server.port)}
            return refusal(await asyncio.to_thread(gql_server, "serve", "--workers", "2", settings=settings))

    assert "the port is in use" in asyncio.run(refused())


def test_what_prevents_a_worker_from_starting_ends_the_start(server_dsn: str, template: str) -> None:
    """A database without the migrations ends all workers at once, with the same single line as with one process."""
    settings = {
        "DATABASE_URL": server_dsn.format(database="postgres"),
        "SIGNING_KEY": KEY,
        "PORT": str(free_port()),
    }
    said = refusal(gql_server("serve", "--workers", "2", settings=settings))
    assert "Run `gql-server migrate`" in said
    assert said == refusal(gql_server("serve", settings=settings))


def test_a_pool_too_small_to_share_is_refused() -> None:
    """Each worker needs two database connections; the message says how many are needed in all."""
    with pytest.raises(
        ConfigurationError, match="GQL_SERVER_POOL_MAX_SIZE must be 8 at least: 2 for each of the 4"
    ):
        load_settings(workers=4, pool_max_size=7)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_shares_do_not_exceed_the_whole(workers: int) -> None:
    """What the workers may use together is no more than what was given, but for HTTP limits, which are rounded up."""
    given = load_settings(workers=workers, pool_max_size=24, pool_min_size=7, batch_workers=5)
    shares = [worker_settings(given, number, 8000) for number in range(1, workers + 1)]
    assert sum(share.pool_max_size for share in shares) <= 24
    assert all(share.pool_min_size <= share.pool_max_size for share in shares)
    assert sum(share.batch_workers for share in shares) <= max(5, workers)
    assert all(share.batch_workers >= 1 for share in shares)
    assert sum(share.max_read_memory for share in shares) <= given.max_read_memory
    connections = sum(share.max_connections for share in shares)
    assert given.max_connections <= connections < given.max_connections + workers


async def submit(server: ServerProcess) -> str:
    cell = {"contactPoint": "CELL_PHONE", "reason": "GENERAL", "set": "ON"}
    given = {"mode": "STUDENTS", "cells": [cell], "waitSeconds": 0}
    payload = (await server.ask("maple", SUBMIT, {"input": given}))["batchSetPreferences"]
    assert payload["userErrors"] == []
    return str(payload["run"]["id"])


async def look(server: ServerProcess, run: str) -> Any:
    return (await server.ask("maple", LOOK, {"id": run}))["batchRun"]


async def ended(server: ServerProcess, run: str) -> Any:
    """Return a run once it is DONE. What a worker that was just killed does not answer is asked again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(Unavailable):
                if (state := await look(server, run))["status"] == "DONE":
                    return state
            await asyncio.sleep(0.1)


async def row(district: DistrictBuilder) -> dict[str, Any]:
    found = await district.conn.fetchrow("select * from batch_run")
    assert found is not None
    return dict(found.items())


async def connections(district: DistrictBuilder) -> int:
    """Return how many connections the test's database has."""
    query = "select count(*) from pg_stat_activity where datname = current_database()"
    return int(await district.conn.fetchval(query))


async def waiting(district: DistrictBuilder) -> bool:
    """Return whether a statement waits for a lock."""
    return bool(await district.conn.fetchval("select count(*) from pg_locks where not granted"))
