"""Hooks are called aside: one that waits holds up those who ask it, and nobody else; listeners hold up nobody."""

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

SUBMIT_ERRORS = """
mutation submit($input: BatchSetPreferencesInput!) {
  batchSetPreferences(input: $input) { run { id } userErrors { code } }
}"""


class Waiting:
    """Waits, in the hook that it is told to, until it is let go."""

    def __init__(self) -> None:
        self.hook: str | None = None
        self.inside, self.let_go = threading.Event(), threading.Event()
        self.raises: BaseException | None = None
        self.heard: list[Any] = []

    def wait(self, hook: str) -> None:
        if hook == self.hook:
            self.inside.set()
            assert self.let_go.wait(60)
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
    plugin.let_go.set()


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
async def test_a_hook_that_waits_holds_up_those_alone_who_ask_it(
    dsn: str, db: Pool, district: DistrictBuilder, waiting: Waiting, hook: str
) -> None:
    """While more requests than there are connections wait for a hook, reads are answered, and so are writes that ask
    another; let go, each of those that waited has its answer."""
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
        waiting.let_go.set()
        answers = await asyncio.gather(*blocked)
    if hook == "eligibility_rules":
        assert all("errors" not in answer for answer in answers), answers
    else:
        assert {answer["errors"][0]["extensions"]["code"] for answer in answers} == {"PLUGIN"}


async def test_a_listener_that_waits_holds_up_nobody(
    db: Pool, district: DistrictBuilder, waiting: Waiting
) -> None:
    """A write is answered and a run ends while the plug-in that is told of it waits; it hears of everything in
    order, once it goes on (D28)."""
    person = await one_student(district)
    waiting.hook = "preferences_changed"
    async with serving(db, host_with(waiting, hook_seconds=60), district.district.code) as server:
        for on in (True, False, True):
            assert await server.run(SET, setting(person, on)) == {"setPreferences": {"userErrors": []}}
        run = (await server.run(SUBMIT, {"input": INPUT}))["batchSetPreferences"]["run"]["id"]
        await ended(server, run, "DONE")
        assert waiting.inside.is_set()
        assert waiting.heard == []
        waiting.let_go.set()
        await until(lambda: len(waiting.heard) == 5)
    assert waiting.heard[:4] == [1, 2, 3, 4]
    assert waiting.heard[4].run_id == run


async def test_a_stopping_server_tells_what_there_is_to_tell(
    db: Pool, district: DistrictBuilder, waiting: Waiting
) -> None:
    """What a plug-in has not heard of when the server stops is told it before the end."""
    person = await one_student(district)
    waiting.hook = "preferences_changed"
    async with serving(db, host_with(waiting, hook_seconds=60), district.district.code) as server:
        await server.run(SET, setting(person))
        await server.run(SET, setting(person, False))
        threading.Timer(0.2, waiting.let_go.set).start()
    assert waiting.heard == [1, 2]


async def test_a_listener_may_be_a_coroutine(db: Pool, district: DistrictBuilder) -> None:
    """A coroutine function is awaited, on a loop of its own; one that stalls is cancelled after its time, told in the
    log, and hears of the next."""
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
    """What would end or cancel the server's own work is an error with the plug-in's name, in the answer, the run and
    the log; the next request and the next run go their way."""
    person = await one_student(district)
    waiting.hook, waiting.raises = hook, error
    waiting.let_go.set()
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
    """Past the limit a write is refused with the plug-in's name, and nothing is written; threads that never come back
    are counted, and past so many the plug-in is asked no more, until they are back."""
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
        waiting.let_go.set()
        await until(lambda: not any(thread.is_alive() for thread in stuck))
        await server.run(SET, setting(person))


async def test_clients_that_leave_make_no_hook_stuck(
    db: Pool, district: DistrictBuilder, waiting: Waiting
) -> None:
    """However many leave while a slow plug-in is asked for them, others are answered: only what is out of its own time
    counts as stuck. What they left is asked to its end."""
    person = await one_student(district)
    before = set(threading.enumerate())  # other tests of this process may have left some
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
        waiting.let_go.set()
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


def test_nobody_calls_a_hook_in_place(builtin_plugins: Path) -> None:
    """Services and the API ask hooks aside alone: a call in place would hold up every request."""
    found: Callable[[str], list[str]] = lambda layer: list(  # noqa: E731
        calls(builtin_plugins.parent / "gql_server" / layer, "rules population tell notify_run_finished")
    )
    assert [*found("services"), *found("api"), *found("reads")] == []


async def test_what_no_listener_can_keep_up_with_is_dropped_and_logged(waiting: Waiting) -> None:
    """So many calls wait for a plug-in that does not come back, no more: what is not told is in the log, when it comes
    and when the server stops."""
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
