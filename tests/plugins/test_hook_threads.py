"""Hooks run in threads: one that waits delays only the requests that need its answer, a listener delays nobody."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.domain.ids import IdKind, encode_id
from gql_server.hooks import BatchMode, FilterKind, Population, PreferenceChanges, Rule, hookimpl
from gql_server.hooks.background import MAX_QUEUED_NOTIFICATIONS
from gql_server.hooks.host import PluginHost
from gql_server.hooks.threads import MAX_ABANDONED_THREADS
from tests.plugins.test_check_threads import INPUT, PERSON, SET, SUBMIT, ended, until
from tests.support.builder import DistrictBuilder
from tests.support.checks import crowd
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

SUBMIT_ERRORS = """
mutation submit($input: BatchSetPreferencesInput!) {
  batchSetPreferences(input: $input) { run { id } userErrors { code } }
}"""


class Waiting:
    """A plug-in that waits in one of its hooks until it is released."""

    def __init__(self) -> None:
        self.hook: str | None = None
        self.inside, self.released = threading.Event(), threading.Event()
        self.raises: BaseException | None = None
        self.heard: list[Any] = []

    def wait(self, hook: str) -> None:
        if hook == self.hook:
            self.inside.set()
            assert self.released.wait(60)
            if self.raises is not None:
                raise self.raises

    @hookimpl
    def batch_modes(self) -> list[BatchMode]:
        return [BatchMode("WAITING", "A", "A.", FilterKind.STUDENT)]

    @hookimpl
    def select_population(self, mode: str, scope: object) -> Population | None:
        self.wait("select_population")
        return None

    @hookimpl
    def eligibility_rules(self, request: Any) -> list[Rule]:
        self.wait("eligibility_rules")
        return []

    @hookimpl
    def run_finished(self, run: object) -> None:
        self.wait("run_finished")
        self.heard.append(run)

    @hookimpl
    def preferences_changed(self, changes: Any) -> None:
        self.wait("preferences_changed")
        self.heard.append(changes.revision)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    plugin = Waiting()
    yield plugin
    plugin.released.set()


def host_with(plugin: object, **options: Any) -> PluginHost:
    return PluginHost([resource_folder("plugins")], given={"odd": plugin}, **options)


def setting(person: str, on: bool = True) -> dict[str, Any]:
    cell = {"contactPoint": "CELL_PHONE", "method": "VOICE", "reason": "GENERAL", "on": on}
    return {"input": {"personId": person, "cells": [cell]}}


def changes(revision: int) -> PreferenceChanges:
    return PreferenceChanges(district="maple", revision=revision, source="ADMIN", preferences=1)


async def one_student(district: DistrictBuilder) -> str:
    return encode_id(IdKind.PERSON, await crowd(district, 1))


async def post(server: TestServer, document: str, variables: dict[str, Any]) -> Any:
    _, answer = await server.post({"query": document, "variables": variables}, token=server.token())
    return answer


@pytest.mark.parametrize("hook", ["eligibility_rules", "select_population"])
async def test_a_hook_that_waits_delays_only_those_who_need_it(
    dsn: str, db: Pool, district: DistrictBuilder, waiting: Waiting, hook: str
) -> None:
    """While more requests than there are connections wait for a hook, reads are answered, and so are writes that need
    another hook. When the hook returns, each request that waited gets its answer."""
    person = await one_student(district)
    asking = (SET, setting(person)) if hook == "eligibility_rules" else (
        SUBMIT, {"input": {**INPUT, "mode": "WAITING"}}
    )  # fmt: skip
    other = (SUBMIT, {"input": INPUT}) if hook == "eligibility_rules" else (SET, setting(person))
    async with serving(db, host_with(waiting, hook_seconds=60), district.district.code) as server:
        waiting.hook = hook
        blocked = [asyncio.create_task(post(server, *asking)) for _ in range(12)]
        await until(waiting.inside.is_set)
        for _ in range(10):
            assert (await server.run(PERSON, {"id": person}))["person"] is not None
        assert "errors" not in await post(server, *other)
        assert not any(task.done() for task in blocked)
        waiting.released.set()
        answers = await asyncio.gather(*blocked)
    if hook == "eligibility_rules":
        assert all("errors" not in answer for answer in answers), answers
    else:
        assert {answer["errors"][0]["extensions"]["code"] for answer in answers} == {"PLUGIN"}


async def test_a_listener_that_waits_delays_nobody(
    db: Pool, district: DistrictBuilder, waiting: Waiting
) -> None:
    """A write is answered and a run ends while the listener of an earlier change still waits. When it returns, the
    plug-in is called for each of the others, in order (D28)."""
    person = await one_student(district)
    waiting.hook = "preferences_changed"
    async with serving(db, host_with(waiting, hook_seconds=60), district.district.code) as server:
        for on in (True, False, True):
            assert await server.run(SET, setting(person, on)) == {"setPreferences": {"userErrors": []}}
        run = (await server.run(SUBMIT, {"input": INPUT}))["batchSetPreferences"]["run"]["id"]
        await ended(server, run, "DONE")
        assert waiting.inside.is_set()
        assert waiting.heard == []
        waiting.released.set()
        await until(lambda: len(waiting.heard) == 5)
    assert waiting.heard[:4] == [1, 2, 3, 4]
    assert waiting.heard[4].run_id == run


async def test_a_stopping_server_makes_the_calls_that_wait(
    db: Pool, district: DistrictBuilder, waiting: Waiting
) -> None:
    """A server that stops first makes the calls of listeners that still wait."""
    person = await one_student(district)
    waiting.hook = "preferences_changed"
    async with serving(db, host_with(waiting, hook_seconds=60), district.district.code) as server:
        await server.run(SET, setting(person))
        await server.run(SET, setting(person, False))
        threading.Timer(0.2, waiting.released.set).start()
    assert waiting.heard == [1, 2]


async def test_a_listener_may_be_a_coroutine(db: Pool, district: DistrictBuilder) -> None:
    """A coroutine function is awaited, on an event loop of its own. One that takes too long is cancelled and logged,
    and is called again for the next change."""
    person = await one_student(district)
    heard: list[Any] = []

    class Listener:
        @hookimpl
        async def preferences_changed(self, changes: Any) -> None:
            try:
                await asyncio.sleep(0 if changes.revision > 1 else 60)
            except asyncio.CancelledError:
                heard.append("cancelled")
                raise
            heard.append((changes.revision, asyncio.get_running_loop() is not server_loop))

    server_loop = asyncio.get_running_loop()
    with structlog.testing.capture_logs() as logs:
        async with serving(db, host_with(Listener(), hook_seconds=0.3), district.district.code) as server:
            await server.run(SET, setting(person))
            await server.run(SET, setting(person, False))
            await until(lambda: len(heard) == 2)
    assert sorted(heard, key=str) == [(2, True), "cancelled"]
    (failed,) = (log for log in logs if log["event"] == "plugin_failed")
    assert failed["error"] == "Plug-in 'odd': preferences_changed took longer than 0.3 s."


@pytest.mark.parametrize(
    ("hook", "error"),
    [
        ("eligibility_rules", SystemExit(3)),
        ("eligibility_rules", asyncio.CancelledError()),
        ("eligibility_rules", GeneratorExit()),
        ("run_finished", KeyboardInterrupt()),
        ("run_finished", asyncio.CancelledError()),
        ("preferences_changed", asyncio.CancelledError()),
        ("preferences_changed", SystemExit(3)),
    ],
)
async def test_no_exception_of_a_hook_reaches_the_server(
    db: Pool, district: DistrictBuilder, waiting: Waiting, hook: str, error: BaseException
) -> None:
    """An exception that would end or cancel the server's own work becomes an error with the plug-in's name, in the
    answer, the run and the log. The next request and the next run are not affected."""
    person = await one_student(district)
    waiting.hook, waiting.raises = hook, error
    waiting.released.set()
    words = f"Plug-in 'odd': {hook} failed: {type(error).__name__}."
    with structlog.testing.capture_logs() as logs:
        async with serving(db, host_with(waiting), district.district.code) as server:
            answer = await post(server, SET, setting(person))
            run = (await server.run(SUBMIT, {"input": INPUT}))["batchSetPreferences"]["run"]["id"]
            await ended(server, run, "FAILED" if hook == "eligibility_rules" else "DONE")
            waiting.hook = None
            run = (await server.run(SUBMIT, {"input": INPUT}))["batchSetPreferences"]["run"]["id"]
            await ended(server, run, "DONE")
            await server.run(SET, setting(person, False))
    if hook == "eligibility_rules":
        assert answer["errors"][0]["message"].startswith(words)
    else:
        assert "errors" not in answer
    failed = [log["error"] for log in logs if log["event"] == "plugin_failed"]
    assert failed
    assert all(told.startswith(words) for told in failed)


async def test_a_hook_that_takes_too_long_fails_the_request(
    db: Pool, district: DistrictBuilder, waiting: Waiting
) -> None:
    """After the time limit a write is refused with the plug-in's name, and nothing is written. The threads that still
    run are counted. When there are too many, the plug-in is no longer called, until they have ended."""
    person = await one_student(district)
    waiting.hook = "eligibility_rules"
    async with serving(db, host_with(waiting, hook_seconds=0.2), district.district.code) as server:
        answers = [await post(server, SET, setting(person)) for _ in range(MAX_ABANDONED_THREADS + 1)]
        words = [answer["errors"][0]["message"] for answer in answers]
        assert set(words[:-1]) == {"Plug-in 'odd': eligibility_rules took longer than 0.2 s."}
        assert "restart the server" in words[-1]
        assert await district.conn.fetchval("select count(*) from change_set") == 0
        stuck = [thread for thread in threading.enumerate() if thread.name == "abandoned: odd"]
        assert len(stuck) == MAX_ABANDONED_THREADS
        waiting.hook = None
        waiting.released.set()
        await until(lambda: not any(thread.is_alive() for thread in stuck))
        await server.run(SET, setting(person))


async def test_clients_that_disconnect_abandon_no_thread(
    db: Pool, district: DistrictBuilder, waiting: Waiting
) -> None:
    """However many clients disconnect while a slow plug-in is called for them, others are answered: a thread counts as
    abandoned only after its own time limit. The calls go on until they end."""
    person = await one_student(district)
    before = set(threading.enumerate())  # other tests of this process may have left threads behind
    waiting.hook = "select_population"
    read = '{ batchOptions(mode: "WAITING") { population } }'
    async with serving(db, host_with(waiting, hook_seconds=60), district.district.code) as server:
        leaving = [asyncio.create_task(post(server, read, {})) for _ in range(MAX_ABANDONED_THREADS + 2)]
        await until(lambda: len(begun_since(before, "hooks")) >= MAX_ABANDONED_THREADS + 2)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        waiting.hook = None
        for on in (True, False) * 15:  # the server notices while it answers
            assert await server.run(SET, setting(person, on)) == {"setPreferences": {"userErrors": []}}
        assert not begun_since(before, "abandoned")
        waiting.released.set()
        await until(lambda: len(begun_since(before, "hooks")) <= 5)


def begun_since(before: set[threading.Thread], name: str) -> set[threading.Thread]:
    """Return the threads that were not there before and whose names begin so."""
    return {thread for thread in threading.enumerate() if thread.name.startswith(name)} - before


def calls(folder: Path, names: str) -> Iterator[str]:
    """Yield each line below a folder that calls one of the host's methods that wait."""
    for file in folder.rglob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if any(f"host.{name}(" in line for name in names.split()):
                yield f"{file.name}: {line.strip()}"


def test_nobody_calls_a_hook_on_the_event_loop(builtin_plugins: Path) -> None:
    """Services and the API call hooks only in threads: a call on the event loop would delay every request."""
    found: Callable[[str], list[str]] = lambda layer: list(  # noqa: E731
        calls(builtin_plugins.parent / "gql_server" / layer, "rules population notify")
    )
    assert [*found("services"), *found("api"), *found("reads")] == []


async def test_calls_beyond_the_queue_are_dropped_and_logged(waiting: Waiting) -> None:
    """A limited number of calls waits for a listener that does not return. The log names each call that is dropped,
    when it is dropped and when the server stops."""
    host = PluginHost([], given={"odd": waiting}, hook_seconds=60)
    waiting.hook = "preferences_changed"
    host.calls.notify_preferences_changed(changes(0))
    await until(waiting.inside.is_set)
    with structlog.testing.capture_logs() as logs:
        for revision in range(MAX_QUEUED_NOTIFICATIONS + 2):
            host.calls.notify_preferences_changed(changes(revision))
        await host.calls.finish(0.01)
    assert [log.get("why") for log in logs] == ["Too many calls wait for it."] * 2 + ["The server stops."]
    assert logs[-1]["calls"] == MAX_QUEUED_NOTIFICATIONS
