"""Server processes and a PostgreSQL that are killed with SIGKILL while runs go on (D21, D28, D29)."""

import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gql_server.db.embedded import create_database
from gql_server.db.migrations import migrate
from gql_server.db.pool import connect
from gql_server.hooks.host import PluginHost
from tests.faults.machines import ENDED, Calm, Machines, Step, Storm, assert_twins
from tests.support.batch import actual, replayed
from tests.support.faults import PostgresProcess

pytestmark = pytest.mark.slow

KILLS = 30


def request(mode: str, cells: str, **options: Any) -> dict[str, Any]:
    """Return a batch's input; cells are written CELL_PHONE:GENERAL=ON, separated by spaces."""
    named = [cell.replace("=", ":").split(":") for cell in cells.split()]
    cells_ = [{"contactPoint": point, "reason": reason, "set": to} for point, reason, to in named]
    return {"mode": mode, "cells": cells_, **options}


CONTACTS = request("STUDENT_CONTACTS", "CELL_PHONE:EMERGENCY=ON HOUSEHOLD_PHONE:GENERAL=ON EMAIL:GENERAL=OFF")
KEEPING = request("STUDENT_CONTACTS", "CELL_PHONE:GENERAL=OFF WORK_PHONE:GENERAL=ON", keepChosen=True)
CHILDREN = request("STUDENTS", "CELL_PHONE:ATTENDANCE=ON EMAIL:TEACHER=ON HOUSEHOLD_PHONE:GENERAL=OFF")
STAFF = request("STUDENTS", "HOME_PHONE:BEHAVIOR=ON CELL_PHONE:STAFF=ON EMAIL:FOOD_SERVICE=OFF")
STEPS = [
    Step("apply", CONTACTS),
    Step("revert"),
    Step("plan", CHILDREN),
    Step("apply", KEEPING),
    Step("revert"),
    Step("plan", CONTACTS),
    Step("apply", STAFF),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short path, through which the user who runs PostgreSQL may pass."""
    with tempfile.TemporaryDirectory(prefix="gql-server-kill-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
async def postgres(folder: Path) -> AsyncIterator[tuple[PostgresProcess, str]]:
    """A PostgreSQL to be killed, and the DSN of a migrated database on it."""
    process = PostgresProcess(folder)
    try:
        await process.up()
        dsn = await create_database(process.dsn(), "kill")
        async with connect(dsn) as conn:
            await migrate(conn)
        yield process, dsn
    finally:
        process.stop()


@pytest.fixture
def machines(folder: Path, postgres: tuple[PostgresProcess, str], host: PluginHost) -> Iterator[Machines]:
    made = Machines(postgres[0], folder, postgres[1], host)
    yield made
    for server in made.servers:
        server.stop()


async def test_runs_end_as_if_nothing_had_been_killed(machines: Machines) -> None:
    """`kill -9` of the server, of PostgreSQL and of both, at random moments of runs, plans and reverts, and while
    they are submitted: each goes on and ends with the preferences, the counts and the log of a twin that nothing
    happened to; no change set and no run is there twice (D28)."""
    for code in ("storm", "calm"):
        await machines.district(code)
    server = await machines.server()
    storm = Storm(machines, server, "storm", chance=random.Random(28))
    taken: list[Step] = []
    while storm.felt.total() < KILLS or len(taken) < len(STEPS):
        taken.append(STEPS[len(taken) % len(STEPS)])
        await storm.take(taken[-1])
    calm = Calm(machines, server, "calm")
    for step in taken:
        await calm.take(step)
    assert {what for what, _ in storm.felt} == {"server", "postgres", "both"}
    await assert_twins(machines, "storm", "calm")


async def test_a_cancelled_run_is_undone_through_kills(machines: Machines) -> None:
    """A run that is cancelled while it applies is undone to the last preference, though the server and PostgreSQL
    are killed meanwhile (D28, D29)."""
    await machines.district("cancelled")
    server = await machines.server()
    storm = Storm(machines, server, "cancelled", chance=random.Random(29))
    async with connect(machines.dsn) as conn:
        before = await actual(await machines.on(conn, "cancelled"))
    run = await Calm(machines, server, "cancelled").submit(CONTACTS)
    await machines.until(run, lambda state: state["done"] > 0)
    await storm.act("cancelBatch", run)
    await storm.rest(run, ENDED)
    assert (await machines.state(run))["status"] == "REVERTED"
    async with connect(machines.dsn) as conn:
        district = await machines.on(conn, "cancelled")
        assert await actual(district) == before
        assert await replayed(district) == before


async def test_a_second_server_takes_over_when_the_lease_expires(machines: Machines) -> None:
    """The run of a killed server stays its own until the lease expires; then a server that was there all along
    ends it, the same as if nothing had happened (D21, D28)."""
    for code in ("taken", "kept"):
        await machines.district(code)
    servers = [await machines.server(BATCH_LEASE_SECONDS="3") for _ in range(2)]
    run = await Calm(machines, servers[0], "taken").submit(CONTACTS)
    working = await machines.until(run, lambda state: state["done"] > 0)
    dead = next(server for server in servers if str(server.pid) == working["pid"])
    other = next(server for server in servers if server is not dead)
    dead.kill()
    left = await machines.state(run)
    assert left["status"] == "APPLYING"
    taken = await machines.until(run, lambda state: state["pid"] != left["pid"])
    assert taken["pid"] in (str(other.pid), None)
    async with connect(machines.dsn) as conn:
        assert await conn.fetchval("select now() > $1", left["lease_expires_at"])
    await machines.until(run, lambda state: state["status"] == "DONE")
    await Calm(machines, other, "kept").take(Step("apply", CONTACTS))
    await assert_twins(machines, "taken", "kept")


async def test_a_server_that_froze_writes_no_more(machines: Machines) -> None:
    """A server that stands still for longer than its lease loses the run to another; awake again it writes
    nothing to it, what it held locked is free again, and the run ends as if nothing had happened (D28)."""
    for code in ("frozen", "awake"):
        await machines.district(code)
    servers = [await machines.server() for _ in range(2)]
    run = await Calm(machines, servers[0], "frozen").submit(CONTACTS)
    working = await machines.until(run, lambda state: state["done"] > 0)
    asleep = next(server for server in servers if str(server.pid) == working["pid"])
    asleep.freeze()
    await machines.until(run, lambda state: state["pid"] != working["pid"])
    asleep.thaw()
    await machines.until(run, lambda state: state["status"] == "DONE")
    other = next(server for server in servers if server is not asleep)
    await Calm(machines, other, "awake").take(Step("apply", CONTACTS))
    await assert_twins(machines, "frozen", "awake")
