"""Rules in Python run in threads: whatever a check does there, the server goes on, and can stop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import structlog

from gql_server.db.pool import Pool
from gql_server.domain.ids import IdKind, encode_id
from gql_server.errors import PluginError
from gql_server.hooks import Candidate, Deny, DistrictReader, Rule, Verdict
from gql_server.hooks.host import OwnedRule, PluginHost
from gql_server.hooks.threads import MAX_ABANDONED_THREADS
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.rules.check_thread import CheckThread, DistrictData
from gql_server.services.rules.checks import ask_check
from tests.support.batch import CELL, Batches, cells, working
from tests.support.builder import DistrictBuilder
from tests.support.checks import Check, crowd, host_checking, run_checking
from tests.support.faults import ServerProcess
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

Verdicts = Sequence[Verdict | Deny]
PERSON = "query person($id: ID!) { person(id: $id) { preferences { contactPoint method on } } }"
SET = """
mutation set($input: SetPreferencesInput!) { setPreferences(input: $input) { userErrors { code } } }"""
SUBMIT = """
mutation submit($input: BatchSetPreferencesInput!) {
  batchSetPreferences(input: $input) { run { id } userErrors { code } }
}"""
LOOK = "query look($id: ID!) { batchRun(id: $id) { status errors } }"
INPUT = {
    "mode": "STUDENTS",
    "cells": [{"contactPoint": "CELL_PHONE", "reason": "EMERGENCY", "set": "ON"}],
    "waitSeconds": 0,
}


def allow(candidates: Sequence[Candidate]) -> Verdicts:
    return [Verdict.ALLOW] * len(candidates)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


class Blocking:
    """A check that blocks its thread, the first time it is called, until it is released. Then it reads."""

    def __init__(self) -> None:
        self.inside, self.released = threading.Event(), threading.Event()
        self.told: list[BaseException | Sequence[Any]] = []

    async def __call__(self, candidates: Sequence[Candidate], reader: DistrictReader) -> Verdicts:
        if not self.inside.is_set():
            self.inside.set()
            self.released.wait(60)
            try:
                self.told.append(await reader.fetch("select 1 as one"))
            except RuntimeError as error:
                self.told.append(error)
        return allow(candidates)


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    check = Blocking()
    yield check
    check.released.set()


async def test_the_portal_is_answered_while_a_check_blocks(
    db: Pool, district: DistrictBuilder, blocking: Blocking
) -> None:
    """While a run's check blocks its thread, reads over HTTP are answered, and so are single writes under the same rule
    (D22). When it is released, the check reads and the run goes on."""
    person = encode_id(IdKind.PERSON, await crowd(district, 3))
    cell = {"contactPoint": "CELL_PHONE", "method": "VOICE", "reason": "GENERAL", "on": True}
    async with serving(db, host_checking(blocking), district.district.code) as server:
        run = (await server.run(SUBMIT, {"input": INPUT}))["batchSetPreferences"]["run"]["id"]
        await until(blocking.inside.is_set)
        for _ in range(20):
            assert (await server.run(PERSON, {"id": person}))["person"] is not None
        given = {"personId": person, "cells": [cell]}
        assert await server.run(SET, {"input": given}) == {"setPreferences": {"userErrors": []}}
        assert (await look(server, run))["status"] == "PLANNING"
        assert not blocking.told
        blocking.released.set()
        await ended(server, run, "DONE")
    assert blocking.told == [[{"one": 1}]]


async def look(server: TestServer, run: str) -> dict[str, Any]:
    state: dict[str, Any] = (await server.run(LOOK, {"id": run}))["batchRun"]
    return state


async def ended(server: TestServer, run: str, status: str) -> None:
    async with asyncio.timeout(30):
        while (await look(server, run))["status"] != status:
            await asyncio.sleep(0.02)


async def test_a_check_that_blocks_too_long_is_left_behind(
    db: Pool, district: DistrictBuilder, blocking: Blocking
) -> None:
    """A check that blocks longer than its time limit fails the run, and nothing is written. The next run's check gets
    another thread. The first check, when it goes on, can read nothing more."""
    person = await crowd(district, 3)
    _, row = await run_checking(db, district, blocking, check_seconds=0.2)
    assert row["status"] == "FAILED"
    assert row["errors"] == ["Plug-in 'odd': rule 'looks' took longer than 0.2 s."]
    assert await district.on(person, CELL) == []
    _, row = await run_checking(db, district, blocking, check_seconds=30)
    assert row["status"] == "DONE"
    assert not blocking.told
    blocking.released.set()
    await until(lambda: blocking.told)
    assert "reads no more" in str(blocking.told[0])


async def test_two_runs_check_at_the_same_time(db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
    """The checks of runs in two districts block at the same time, and neither waits for the other's end (D21)."""
    both = threading.Barrier(2)

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Verdicts:
        both.wait(30)
        return allow(candidates)

    async with db.acquire() as conn:
        other = await DistrictBuilder.create(conn, host, "oak")
        await crowd(district, 3)
        await crowd(other, 3)
        checking = host_checking(check)
        async with working(BatchWorker(db, checking, poll_seconds=0.05)) as worker:
            batches = [Batches(db, checking, builder, worker) for builder in (district, other)]
            runs = await asyncio.gather(*(each.run(*cells(CELL, "EMERGENCY")) for each in batches))
            rows = [await each.row(run) for each, run in zip(batches, runs, strict=True)]
    assert [row["status"] for row in rows] == ["DONE", "DONE"]


async def test_a_cancelled_run_cancels_its_check(db: Pool, district: DistrictBuilder) -> None:
    """A run that is cancelled while a check waits leaves no check behind."""
    await crowd(district, 3)
    heard: list[str] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Verdicts:
        heard.append("asked")
        try:
            await asyncio.Event().wait()
        finally:
            heard.append("left")
        return allow(candidates)

    checking = host_checking(check)
    async with working(BatchWorker(db, checking, poll_seconds=0.05, lease_seconds=0.6)) as worker:
        batches = Batches(db, checking, district, worker)
        number = await batches.run(*cells(CELL, "EMERGENCY"), wait=0)
        await until(lambda: heard)
        await batches.cancel(number)
        await until(lambda: len(heard) > 1)
    assert heard == ["asked", "left"]
    assert (await batches.row(number))["status"] == "CANCELLED"


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), TimeoutError(), StopIteration()]
)
async def test_no_exception_of_a_check_reaches_the_server(
    db: Pool, district: DistrictBuilder, error: BaseException
) -> None:
    """An exception that would end or cancel the server's own work fails the run as any other error does."""
    await crowd(district, 3)

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Verdicts:
        raise error

    _, row = await run_checking(db, district, check)
    kind = "RuntimeError" if isinstance(error, StopIteration) else type(error).__name__
    assert row["errors"][0].startswith(f"Plug-in 'odd': rule 'looks' failed: {kind}.")


async def test_a_check_reads_from_its_thread(db: Pool, district: DistrictBuilder) -> None:
    """A check reads the district's data, several reads at once, and goes on after one that fails."""
    first = await crowd(district, 3)
    looks: list[Any] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Verdicts:
        people = "select person_id from person where district_id = :district_id and person_id > :above"
        with pytest.raises(Exception, match="division by zero"):
            await reader.fetch("select 1 / 0")
        looks.extend(await asyncio.gather(reader.fetch(people, above=first), reader.fetch("select 2 as two")))
        return allow(candidates)

    _, row = await run_checking(db, district, check)
    assert row["status"] == "DONE"
    people, two = looks
    assert [sorted(row.values()) for row in people] == [[first + 1], [first + 2]]
    assert two == [{"two": 2}]


@pytest.fixture
async def thread(db: Pool, district: DistrictBuilder) -> AsyncIterator[CheckThread]:
    with CheckThread("odd", DistrictData(db, district.id, date.today())) as entered:
        yield entered


def owned(check: Check) -> OwnedRule:
    return OwnedRule(Rule("looks", "It looks odd.", check=check), "odd")


async def test_a_check_sees_the_context_of_its_caller(thread: CheckThread) -> None:
    """A check has the context variables, such as those of log lines, of the code that called it."""
    run = ContextVar("run", default="none")
    seen: list[str] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Verdicts:
        seen.append(run.get())
        return []

    for name in ("one", "two"):
        run.set(name)
        await ask_check(owned(check), [], thread)
    assert seen == ["one", "two"]


async def test_a_kept_reader_reads_no_more(thread: CheckThread) -> None:
    """A reader is for one call: one that is kept for the next refuses to read, and says why."""
    kept: list[DistrictReader] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Verdicts:
        kept.append(reader)
        await kept[0].fetch("select 1")
        return []

    await ask_check(owned(check), [], thread)
    with pytest.raises(PluginError, match="failed: RuntimeError"):
        await ask_check(owned(check), [], thread)
    with pytest.raises(RuntimeError, match="reads no more"):
        await kept[1].fetch("select 1")


async def test_an_error_left_behind_is_logged_without_its_words(thread: CheckThread) -> None:
    """A task that a check leaves running may fail: the log says where, without its words."""

    async def forgotten() -> None:
        raise ValueError("Ada Lane")

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Verdicts:
        task = asyncio.create_task(forgotten())
        await asyncio.wait([task])
        return []

    with structlog.testing.capture_logs() as logged:
        await ask_check(owned(check), [], thread)
        await until(lambda: logged)
    assert [(entry["event"], entry["error"]) for entry in logged] == [("plugin_task_failed", "ValueError")]
    assert "Ada" not in str(logged)


async def test_a_plugin_whose_threads_never_end_is_no_longer_called(
    db: Pool, district: DistrictBuilder
) -> None:
    """Threads that do not end are counted: above the limit the plug-in fails at once, until they have ended."""
    released = threading.Event()

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Verdicts:
        released.wait(60)
        return []

    async def ask() -> Verdicts:
        with CheckThread("odd", DistrictData(db, district.id, date.today())) as thread:
            return await ask_check(owned(check), [], thread, 0.01)

    for _ in range(MAX_ABANDONED_THREADS):
        with pytest.raises(PluginError, match="took longer"):
            await ask()
    with pytest.raises(PluginError, match="restart the server"):
        await ask()
    released.set()
    await until(lambda: not any(each.name == "abandoned: odd" for each in threading.enumerate()))
    assert await ask() == []


BLOCKS = """
import pathlib, time
from gql_server.hooks import Rule, hookimpl

async def check(candidates, reader):
    pathlib.Path(__file__).with_name("inside").touch()
    while True:
        time.sleep(3600)

@hookimpl
def eligibility_rules(request):
    return [Rule("sleeps", "It never comes back.", check=check)]
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["0.3", "60"])
async def test_a_server_whose_check_never_comes_back_ends(
    dsn: str, district: DistrictBuilder, tmp_path: Path, limit: str
) -> None:
    """A check that blocks for ever fails its run with the plug-in's name, and SIGTERM ends the server at once, both
    while it waits for the check and after it has abandoned the thread."""
    await crowd(district, 3)
    plugin = tmp_path / "plugins" / "sleeper.py"
    plugin.parent.mkdir()
    plugin.write_text(BLOCKS, encoding="utf-8")
    server = ServerProcess(dsn, tmp_path, PLUGINS_DIR=str(plugin.parent), CHECK_TIMEOUT=limit)
    server.start()
    try:
        await server.up()
        answer = await server.ask(district.district.code, SUBMIT, {"input": INPUT})
        run = {"id": answer["batchSetPreferences"]["run"]["id"]}
        await until(plugin.with_name("inside").exists)
        state = (await server.ask(district.district.code, LOOK, run))["batchRun"]
        if limit != "60":
            async with asyncio.timeout(30):
                while state["status"] != "FAILED":
                    state = (await server.ask(district.district.code, LOOK, run))["batchRun"]
            words = f"Plug-in 'sleeper': rule 'sleeps' took longer than {limit} s."
            assert state["errors"] == [words]
    finally:
        code = server.stop()
    assert code == 0, server.log
