"""One PostgreSQL and the servers on it, told to work runs, calmly or while they are killed."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from gql_server.db.pool import connect
from gql_server.db.protocols import Connection
from gql_server.domain.ids import IdKind, encode_id, parse_id
from gql_server.domain.viewer import District
from gql_server.errors import Unavailable
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import reason_bits
from gql_server.services.sample import make_sample
from tests.faults.traces import traces
from tests.support.batch import actual, replayed
from tests.support.builder import DistrictBuilder
from tests.support.faults import PostgresProcess, ServerProcess

STUDENTS = 1_200
ENDED = ("DONE", "FAILED", "CANCELLED", "REVERTED")
SUBMIT = """
mutation submit($input: BatchSetPreferencesInput!) {
  batchSetPreferences(input: $input) { run { id status errors } userErrors { code message } }
}"""
_ACT = "mutation act($id: ID!) { %s(id: $id) { run { id status } userErrors { code message } } }"
_STATE = """
select status::text, done, total, errors, split_part(lease_owner, ':', 2) as pid, lease_expires_at
from batch_run where batch_run_id = $1
"""

State = dict[str, Any]


@dataclass
class Machines:
    """One PostgreSQL with one migrated database, and the servers made for it."""

    postgres: PostgresProcess
    folder: Path
    dsn: str
    host: PluginHost
    servers: list[ServerProcess] = field(default_factory=list)

    async def server(self, **settings: str) -> ServerProcess:
        """Start a server that works small chunks."""
        name = f"server-{len(self.servers)}"
        given = {"BATCH_CHUNK_SIZE": "40", "BATCH_LEASE_SECONDS": "1", **settings}
        server = ServerProcess(self.dsn, self.folder, name, **given)
        self.servers.append(server)
        server.start()
        await server.up()
        return server

    async def district(self, code: str) -> None:
        """Make a sample district: the same one, whatever its code."""
        async with connect(self.dsn) as conn:
            await make_sample(conn, self.host, code=code, students=STUDENTS, seed=7)

    async def on(self, conn: Connection, code: str) -> DistrictBuilder:
        number = await conn.fetchval("select district_id from district where code = $1", code)
        return DistrictBuilder(conn, District(number, code, "UTC"), await reason_bits(conn, number))

    async def state(self, run: int) -> State:
        async with connect(self.dsn) as conn:
            row = await conn.fetchrow(_STATE, run)
        assert row is not None
        return dict(row.items())

    async def until(self, run: int, reached: Callable[[State], bool], seconds: float = 60) -> State:
        """Return the state of a run as soon as it is as asked."""
        async with asyncio.timeout(seconds):
            while not reached(state := await self.state(run)):
                await asyncio.sleep(0.02)
        return state

    async def moved(self, run: int, rests: Collection[str]) -> None:
        """Wait until a run has done something, or rests."""
        at = await self.state(run)
        stood = (at["status"], at["done"])
        await self.until(run, lambda now: now["status"] in rests or (now["status"], now["done"]) != stood)

    async def undoing(self, run: int) -> int:
        """Return the number of the run that undoes a run, as soon as it is recorded."""
        query = "select batch_run_id from batch_run where reverts_run_id = $1 order by batch_run_id desc"
        async with asyncio.timeout(60), connect(self.dsn) as conn:
            while (number := await conn.fetchval(query, run)) is None:
                await asyncio.sleep(0.02)
        return int(number)


@dataclass(frozen=True, slots=True)
class Step:
    """What is asked of a district: a batch at once, or by way of a plan; or to undo the newest run."""

    how: Literal["apply", "plan", "revert"]
    request: dict[str, Any] = field(default_factory=dict)


@dataclass
class Calm:
    """Takes steps in one district, by one server that nothing happens to."""

    machines: Machines
    server: ServerProcess
    code: str
    newest: int = 0

    async def take(self, step: Step) -> None:
        """Take a step to its end, and assert that it is DONE."""
        if step.how == "revert":
            await self.act("revertBatch", self.newest)
            run = await self.machines.undoing(self.newest)
        else:
            run = self.newest = await self.submit({**step.request, "dryRun": step.how == "plan"})
        if step.how == "plan":
            await self.rest(run, ("PLANNED", *ENDED))
            await self.act("applyBatch", run)
        await self.rest(run, ENDED)
        assert (await self.machines.state(run))["status"] == "DONE"

    async def submit(self, request: dict[str, Any]) -> int:
        """Submit a batch as the district's administrator and return the number of its run."""
        given = {"input": {"waitSeconds": 0, **request}}
        payload = (await self.server.ask(self.code, SUBMIT, given))["batchSetPreferences"]
        assert not payload["userErrors"]
        number = parse_id(IdKind.BATCH_RUN, payload["run"]["id"])
        assert number is not None
        return number

    async def act(self, mutation: str, run: int) -> None:
        """Do a mutation on a run and return once it is recorded: the answer would wait for more."""
        before = (await self.machines.state(run))["status"]
        call = self.server.ask(self.code, _ACT % mutation, {"id": encode_id(IdKind.BATCH_RUN, run)})
        task = asyncio.create_task(call)
        try:
            await self.machines.until(run, lambda now: now["status"] != before)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def rest(self, run: int, rests: Collection[str]) -> None:
        """Wait until a run has one of these statuses."""
        await self.machines.until(run, lambda state: state["status"] in rests)


@dataclass
class Storm(Calm):
    """Takes steps while its server and PostgreSQL are killed at random moments.

    felt: how often what was killed, and in which status the run was then; a kill that found the run at rest does
    not count.
    """

    chance: random.Random = field(default_factory=random.Random)
    felt: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def submit(self, request: dict[str, Any]) -> int:
        """Submit a batch, now and then killing whoever records it, until there is an answer: one key, one run."""
        request = {**request, "idempotencyKey": uuid4().hex}
        if self.chance.random() < 0.3:
            task = asyncio.create_task(super().submit(request))
            await asyncio.sleep(self.chance.uniform(0, 0.08))
            what = self.kill()
            if not task.done():
                self.felt[what, "SUBMITTED"] += 1
            await self.revive_postgres(what)
            await self.revive_server(what)
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(30):
            while True:
                try:
                    return await super().submit(request)
                except Unavailable:
                    await asyncio.sleep(0.1)

    async def rest(self, run: int, rests: Collection[str]) -> None:
        while True:
            if self.chance.random() < 0.65:
                # Let it get going first: a killed server takes longer to start than a run to end.
                await self.machines.moved(run, rests)
            await asyncio.sleep(self.chance.uniform(0, self.chance.choice((0.03, 0.3))))
            if (await self.machines.state(run))["status"] in rests:
                return
            what = self.kill()
            await self.revive_postgres(what)
            status = (await self.machines.state(run))["status"]
            if status not in rests:
                self.felt[what, status] += 1
            await self.revive_server(what)

    def kill(self) -> str:
        """Kill the server, PostgreSQL or both, and return which."""
        what = self.chance.choice(("server", "postgres", "both"))
        if what != "postgres":
            self.server.kill()
        if what != "server":
            self.machines.postgres.kill()
        return what

    async def revive_postgres(self, killed: str) -> None:
        if killed != "server":
            self.machines.postgres.start()
            await self.machines.postgres.up()

    async def revive_server(self, killed: str) -> None:
        if killed != "postgres":
            self.server.start()
            await self.server.up()


async def assert_twins(machines: Machines, disturbed: str, calm: str) -> None:
    """Assert that both districts have been left the same, each as its own log tells, each change set once (D28)."""
    async with connect(machines.dsn) as conn:
        left = {}
        for code in (disturbed, calm):
            district = await machines.on(conn, code)
            assert await replayed(district) == await actual(district)
            left[code] = await traces(conn, district.id)
            assert left[code].revisions == tuple(range(1, len(left[code].revisions) + 1))
        # Only plans have forecasts.
        assert all(rows for kind, rows in left[disturbed].rows.items() if kind != "forecasts")
        differences = left[disturbed].differences(left[calm])
        assert not differences, differences
