"""Behind a pooler that hands connections on after each transaction nobody gets another's answer."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from typing import Any

import asyncpg
import pytest
import structlog

from gql_server.db.pool import Pool, connect, open_pool
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.viewer import Role
from gql_server.errors import Busy, TimedOut, Unavailable
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.pooler import pgbouncer, pooler
from tests.support.random_district import load_random_district
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

REQUESTS = int(os.environ.get("POOLER_REQUESTS", "400"))
QUERIES = (
    "{ viewer { role } people(first: 9) { edges { node { id firstName lastName } } } }",
    '{ people(first: 5, filter: {search: "a"}) { edges { node { id contactPoints { kind value } } } } }',
    '{ node(id: "person_1") { id ... on Person { firstName students { student { id lastName } } optOuts { id } } } }',
    "{ contactReasons { code } schools { id name } }",
)
WHO = (
    (Role.ADMIN, None),
    (Role.VENDOR, None),
    (Role.GUARDIAN, "P1"),
    (Role.STUDENT, "P2"),
    (Role.GUARDIAN, "P3"),
)
WRITE = """mutation write($input: SetPreferencesInput!) {
  setPreferences(input: $input) { person { id } userErrors { code } }
}"""
BATCH = """mutation {
  batchSetPreferences(input: {
    mode: "STUDENTS", scope: {}, waitSeconds: 30, cells: [{contactPoint: EMAIL, reason: "GENERAL", set: ON}]
  }) { run { status errors } userErrors { code message } }
}"""
KEPT = """select (select count(*) from pg_prepared_statements) || ' ' || (select count(*) from pg_listening_channels())
  || ' ' || (select count(*) from pg_class where relpersistence = 't' and relkind = 'r')
  || ' ' || (select count(*) from pg_settings where source = 'session')"""


async def _up(dsn: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                async with connect(dsn):
                    return
            except Unavailable:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def servers(dsn: str, host: PluginHost, number: int = 2) -> AsyncIterator[list[TestServer]]:
    """Run servers on pools of their own, each with a few connections, whatever settings they find."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(number):
            pool = await open_pool(dsn, min_size=1, max_size=6)
            stack.push_async_callback(pool.close)
            made.append(await stack.enter_async_context(serving(pool, host, "d1")))
        yield made


async def requests(db: Pool, host: PluginHost) -> list[tuple[str, str, Any]]:
    """Return requests of four roles in three districts that have the same ids, with their answers."""
    async with db.transaction() as conn:
        for seed in (1, 2, 3):
            await load_random_district(conn, host, f"d{seed}", seed)
        # Their runs are made up: no worker is to work them.
        await conn.execute("update batch_run set lease_owner = 'nobody', lease_expires_at = 'infinity'")
    asked = []
    async with serving(db, host, "d1") as server:
        tokens = [server.token(role, person, f"d{n}") for n in (1, 2, 3) for role, person in WHO]
        for token in tokens:
            for query in QUERIES:
                _, answer = await server.post({"query": query}, token=token)
                asked.append((token, query, answer))
    return asked


async def storm(made: list[TestServer], asked: list[tuple[str, str, Any]], number: int) -> None:
    """Send requests at random, many at once, to all servers; fail for every answer that is not its own."""
    left, rng, wrong = count(), random.Random(7), []

    async def client() -> None:
        while next(left) < number:
            token, query, due = rng.choice(asked)
            _, answer = await rng.choice(made).post({"query": query}, token=token)
            if answer != due:
                wrong.append((query, answer, due))

    await asyncio.gather(*(client() for _ in range(24)))
    assert not wrong, f"{len(wrong)} of {number}, such as {wrong[0]}"


async def write(made: list[TestServer], district: DistrictBuilder) -> None:
    """Write singly and by a batch: transactions, temporary tables, cursors and the lease go through the pooler too."""
    student = await district.student(await district.school(), email="ada@example.org")
    for n, server in enumerate(made):
        token = server.token(district="maple")
        cell = {"contactPoint": "EMAIL", "method": "EMAIL", "reason": "ATTENDANCE", "on": not n % 2}
        given = {"input": {"personId": f"person_{student}", "cells": [cell]}}
        wrote = (await server.run(WRITE, given, token=token))["setPreferences"]
        assert wrote == {"person": {"id": f"person_{student}"}, "userErrors": []}
        run = (await server.run(BATCH, token=token))["batchSetPreferences"]
        assert run == {"run": {"status": "DONE", "errors": []}, "userErrors": []}
    assert await district.on(student, ContactPointKind.EMAIL) == ["GENERAL"]


async def ready(server: TestServer) -> str:
    async with server.session.get(f"{server.url}/readyz") as response:
        assert response.status == 200
        return str((await response.json())["pooler"])


async def test_behind_a_pooler_every_answer_is_its_own(
    db: Pool, dsn: str, host: PluginHost, district: DistrictBuilder
) -> None:
    """Two servers on few connections that are handed on: every answer is its request's, by role and district; the
    pooler's connections keep nothing of it; and the server says that it is so."""
    asked = await requests(db, host)
    async with pooler(dsn) as between:
        with structlog.testing.capture_logs() as logged:
            async with servers(between.dsn, host) as made:
                await storm(made, asked, REQUESTS)
                await write(made, district)
                told = [await ready(server) for server in made]
                assert all(words.startswith("yes") for words in told)
        assert between.switches > REQUESTS // 2
        told = [e["event"] for e in logged if e["event"] != "batch_run_failed"]
        assert told == ["database_pooler_detected"] * 2, told
        assert set(await between.ask(KEPT)) == {"0 0 0 0"}
        assert set(
            await between.ask("select string_agg(name, ' ') from pg_settings where source = 'session'")
        ) == {""}


async def test_behind_pgbouncer_every_answer_is_its_own(
    db: Pool, dsn: str, host: PluginHost, district: DistrictBuilder
) -> None:
    """The same behind PgBouncer in transaction mode, set up as Debian does: no startup parameter is refused."""
    asked = await requests(db, host)
    with pgbouncer(dsn) as behind:
        await _up(behind)
        async with servers(behind, host) as made:
            await storm(made, asked, REQUESTS)
            await write(made, district)
            assert (await ready(made[0])).startswith("yes")


class _Client(asyncpg.Connection):
    """A connection of one process of several: each counts the names of its statements for itself."""

    names = count(1)

    def _get_unique_id(self, prefix: str) -> str:
        return f"__asyncpg_{prefix}_{next(type(self).names):x}__"


async def test_the_pooler_mixes_up_what_has_a_name(dsn: str) -> None:
    """What the tests above protect from: two processes whose statements have names get each other's rows."""

    rng, wrong = random.Random(7), 0
    async with pooler(dsn, size=2) as between:
        kinds = [type("Process", (_Client,), {"names": count(1)}) for _ in range(2)]
        clients = [await asyncpg.connect(between.dsn, connection_class=kind) for kind in kinds]
        for _ in range(200):  # one after the other: the same each time
            number = rng.randrange(2)
            due = 100 * number + rng.randrange(3)
            with suppress(asyncpg.PostgresError):
                wrong += await clients[number].fetchval(f"select {due}") != due
        for client in clients:
            client.terminate()
    assert wrong


async def test_names_that_are_forced_bring_errors_and_no_other_rows(db: Pool, dsn: str) -> None:
    """`never` behind a pooler that keeps no names: what another asked for is never given; the connection is dropped."""
    async with pooler(dsn, size=3) as between:
        pools = [
            await open_pool(between.dsn, min_size=1, max_size=2, unnamed_statements="never") for _ in range(2)
        ]
        refused = 0
        for n in range(60):
            try:
                async with pools[n % 2].acquire() as conn:
                    assert await conn.fetchval(f"select {n % 7}") == n % 7
            except Unavailable:
                refused += 1
        assert refused
        for pool in pools:
            await pool.close()


async def test_settings_hold_behind_a_pooler(dsn: str) -> None:
    """Timeouts and `jit` hold in every statement and transaction, though no session keeps them; a read-only
    transaction is one."""
    show = "select current_setting('statement_timeout') || current_setting('lock_timeout') || current_setting('jit')"
    async with pooler(dsn) as between:
        pool = await open_pool(between.dsn, statement_timeout=0.2, lock_timeout=0.1)
        async with pool.acquire() as conn:
            assert await conn.fetchval(show) == "200ms100msoff"
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                async with conn.transaction(readonly=True):
                    await conn.execute("create table nothing ()")
        async with pool.transaction() as conn:
            assert await conn.fetchval(show) == "200ms100msoff"
        with pytest.raises(TimedOut):
            async with pool.acquire() as conn:
                await conn.fetchval("select pg_sleep(5)")
        with pytest.raises(TimedOut):
            async with pool.acquire() as conn:
                await conn.fetchval("select pg_sleep(5)", timeout=0.05)
        await pool.close()


@pytest.mark.parametrize("there", [0, 2])
async def test_a_pooler_without_a_free_connection_is_waited_for_so_long(dsn: str, there: int) -> None:
    """Where the pooler has none to give, who asks is told so after the acquire timeout, whether or not a connection
    to the pooler was there, and the next is answered."""
    async with asyncio.timeout(40), pooler(dsn, size=1) as between:
        pool = await open_pool(between.dsn, min_size=there, max_size=4, acquire_timeout=0.5)
        async with pool.transaction() as held:
            assert await held.fetchval("select 1") == 1
            with pytest.raises(Busy if there else Unavailable):
                await _ask(pool)
        assert await _ask(pool) == 2
        await pool.close()


async def _ask(pool: Pool) -> Any:
    async with pool.acquire() as conn:
        return await conn.fetchval("select 2")


async def test_commands_work_behind_a_pooler(dsn: str) -> None:
    """The connection of `migrate` and imports is made there too, and iterates cursors inside a transaction."""
    async with pooler(dsn) as between, connect(between.dsn) as conn, conn.transaction():
        seen = [row[0] async for row in conn.cursor("select generate_series(1, 500)", prefetch=7)]
    assert seen == list(range(1, 501))
