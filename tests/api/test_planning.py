"""How far a plan is while it is made: over HTTP, to subscribers and on a terminal; and what may be done meanwhile."""

import asyncio
import os
import pty
import subprocess
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.hooks import Candidate, DistrictReader, Verdict
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, HOUSEHOLD, Batches, cells, working
from tests.support.builder import DistrictBuilder
from tests.support.checks import crowd, host_checking
from tests.support.command import COMMAND, environment
from tests.support.server import TestServer, serving
from tests.support.ws import PATIENCE, socket

pytestmark = pytest.mark.slow

PEOPLE, CHUNKS, CHUNK_SECONDS = 24_500, 25, 0.1
FIELDS = "status progress { done total planning { step done total } }"
READ = f"query ($id: ID!) {{ batchRun(id: $id) {{ {FIELDS} }} }}"
WATCH = f"subscription ($id: ID!) {{ batchRun(id: $id) {{ {FIELDS} }} }}"
SUBMIT = """mutation ($input: BatchSetPreferencesInput!) {
  batchSetPreferences(input: $input) { run { id } userErrors { code } } }"""
INPUT = {
    "mode": "STUDENTS", "dryRun": True, "waitSeconds": 0,
    "cells": [{"contactPoint": "CELL_PHONE", "reason": "EMERGENCY", "set": "ON"}],
}  # fmt: skip
STEPS = ["SELECTING_PEOPLE", "FINDING_CHANNELS", "ASKING_RULES", "WRITING_PLAN"]


async def ponder(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
    """Take some time over every chunk."""
    await asyncio.sleep(CHUNK_SECONDS)
    return [Verdict.ALLOW] * len(candidates)


class Gate:
    """A check that can be made to wait. It is asked in a thread of its own."""

    def __init__(self) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()
        self.opened.set()
        self.asked = 0

    async def __call__(self, candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        self.asked += 1
        self.reached.set()
        self.opened.wait(PATIENCE)
        return [Verdict.ALLOW] * len(candidates)

    def close(self) -> None:
        self.opened.clear()
        self.reached.clear()


@pytest.fixture
async def slow_server(db: Pool, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    """A server with a rule that takes seconds for all of a district's students."""
    await crowd(district, PEOPLE)
    async with serving(db, host_checking(ponder), "maple", batch_watch_seconds=3600) as server:
        yield server


async def submitted(server: TestServer) -> str:
    answer = (await server.run(SUBMIT, {"input": INPUT}))["batchSetPreferences"]
    assert answer["userErrors"] == []
    return str(answer["run"]["id"])


def assert_moving(seen: list[dict[str, Any]]) -> None:
    """Assert that a plan's progress goes forward, and in as many moves as the rules take seconds.

    How long it stands still is measured by `tests/bench/live.py`: here other work of the machine would decide it.
    """
    plans = [run["progress"]["planning"] for run in seen if run["status"] == "PLANNING"]
    places = [(STEPS.index(plan["step"]), plan["done"]) for plan in plans]
    assert places == sorted(places)
    asking = [plan for plan in plans if plan["step"] == "ASKING_RULES"]
    assert len({plan["total"] for plan in asking}) == 1
    assert asking[0]["total"] % PEOPLE == 0
    assert all(plan["done"] <= plan["total"] for plan in asking)
    assert len({plan["done"] for plan in asking}) >= CHUNKS * CHUNK_SECONDS
    assert all(run["progress"]["planning"] is None for run in seen if run["status"] != "PLANNING")


async def test_a_plan_says_how_far_it_is(slow_server: TestServer) -> None:
    """While a rule in Python looks at everybody, polling shows the step, and its measure moves; before and after the
    plan there is none."""
    run = await submitted(slow_server)
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while not seen or seen[-1]["status"] != "PLANNED":
            seen.append((await slow_server.run(READ, {"id": run}))["batchRun"])
            await asyncio.sleep(0.05)
    assert_moving(seen)


async def test_a_subscriber_is_told_how_far_a_plan_is(slow_server: TestServer) -> None:
    """Whoever watches a run is told whenever its plan has got further, by notifications alone."""
    seen: list[dict[str, Any]] = []
    async with socket(slow_server) as ws:
        await ws.open(slow_server.token())
        await ws.subscribe("w", WATCH, {"id": await submitted(slow_server)})
        while (message := await ws.receive())["type"] == "next":
            seen.append(message["payload"]["data"]["batchRun"])
    assert seen[-1]["status"] == "PLANNED"
    assert_moving(seen)


@pytest.mark.slow
async def test_the_command_shows_how_far_a_plan_is(slow_server: TestServer) -> None:
    """On a terminal `gql-server batch` names the step of the plan and counts it."""
    screen, terminal = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), "batch", "--mode", "STUDENTS", "--set", "CELL_PHONE:EMERGENCY=ON", "--dry-run",
        env={**environment({"URL": slow_server.url, "TOKEN": slow_server.token()}), "TERM": "xterm"},
        stdout=subprocess.DEVNULL, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = await asyncio.wait_for(asyncio.to_thread(read_all, screen), 30)
    assert await process.wait() == 0
    assert "Planning: asking the rules" in shown
    assert f" of {PEOPLE:,}" in shown or f" of {2 * PEOPLE:,}" in shown


def read_all(screen: int) -> str:
    """Return what a terminal shows until nobody writes to it any more."""
    shown = b""
    try:
        while part := os.read(screen, 65_536):
            shown += part
    except OSError:  # how the other end's closing is told
        pass
    os.close(screen)
    return shown.decode(errors="replace")


@asynccontextmanager
async def applied_again(
    db: Pool, district: DistrictBuilder, **limits: Any
) -> AsyncIterator[tuple[Batches, Gate, int]]:
    """Give a plan that is applied, and so PLANNING again, held up by a rule."""
    await crowd(district, 5)
    gate = Gate()
    host = host_checking(gate)
    async with working(BatchWorker(db, host, poll_seconds=0.05, **limits)) as worker:
        batches = Batches(db, host, district, worker)
        run = await batches.run(*cells(CELL, "EMERGENCY"), dry_run=True)
        gate.close()
        await batches.apply(run, wait=0)
        assert await asyncio.to_thread(gate.reached.wait, PATIENCE)
        assert (await batches.row(run))["status"] == "PLANNING"
        yield batches, gate, run


async def test_a_plan_that_is_applied_is_cancelled_at_once(db: Pool, district: DistrictBuilder) -> None:
    """While a rule thinks about a plan that is applied, cancelBatch answers; nothing is left of the plan, and the next
    run has its turn (D21, D28)."""
    async with applied_again(db, district) as (batches, gate, run):
        async with asyncio.timeout(1):
            await batches.cancel(run)
        row = await batches.row(run)
        assert (row["status"], row["planning_step"], row["planning_done"]) == ("CANCELLED", None, None)
        gate.opened.set()
        assert (await batches.row(await batches.run(*cells(CELL, "GENERAL"))))["status"] == "DONE"
        async with asyncio.timeout(PATIENCE):
            while await district.conn.fetchval("select count(*) from batch_target"):
                await asyncio.sleep(0.02)
    assert await district.conn.fetchval("select count(*) from change_set where batch_run_id = $1", run) == 0


async def test_a_plan_that_is_applied_keeps_its_lease(db: Pool, district: DistrictBuilder) -> None:
    """A rule that thinks for longer than the lease loses the run to nobody, for a plan that is applied too (D21)."""
    async with (
        applied_again(db, district, lease_seconds=0.6) as (batches, gate, run),
        working(BatchWorker(db, batches.host, poll_seconds=0.05)),
    ):
        owner = (await batches.row(run))["lease_owner"]
        await asyncio.sleep(1.5)
        assert (await batches.row(run))["lease_owner"] == owner
        gate.opened.set()
        assert (await batches.ended(run))["status"] == "DONE"
    assert gate.asked == 2


async def test_a_plan_of_a_killed_server_begins_anew(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """Who takes over a run that is PLANNING plans it from the first step, and shows so (D28)."""
    await crowd(district, 5)
    batches = Batches(db, host, district, BatchWorker(db, host))
    run = await batches.run(*cells(CELL, "EMERGENCY"), wait=0)
    await district.conn.execute(
        "update batch_run set status = 'PLANNING', lease_owner = 'dead', lease_expires_at = now() - interval '1 s',"
        " planning_step = 'WRITING_PLAN', planning_done = 0, planning_total = 0"
    )
    gate = Gate()
    gate.close()
    async with working(BatchWorker(db, host_checking(gate), poll_seconds=0.05)):
        assert await asyncio.to_thread(gate.reached.wait, PATIENCE)
        assert (await batches.row(run))["planning_step"] in STEPS[:3]
        gate.opened.set()
        row = await batches.ended(run)
    assert (row["status"], row["planning_step"], row["planning_total"]) == ("DONE", None, None)


@pytest.mark.parametrize("ending", ["failed", "done"])
async def test_no_progress_is_left_of_a_plan(db: Pool, district: DistrictBuilder, ending: str) -> None:
    """When a plan has ended, well or not, nothing of its progress stays with the run."""

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        await asyncio.sleep(0.6)  # long enough to be written down
        return [Verdict.ALLOW] * (len(candidates) - (ending == "failed"))

    first = await crowd(district, 5)
    await district.household(first, phone="1")
    host = host_checking(check)
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        row = await batches.row(await batches.run(*cells(CELL, "EMERGENCY"), *cells(HOUSEHOLD, "EMERGENCY")))
    assert row["status"] == ending.upper()
    assert [row[f"planning_{name}"] for name in ("step", "done", "total")] == [None] * 3
