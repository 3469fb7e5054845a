"""One district's trouble stays its own: locks that others hold, statements that last, connections that are lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import structlog

from gql_server.db.pool import Pool, connect, open_pool
from gql_server.domain.channels import ContactPointKind
from gql_server.errors import AnswerMismatch, Busy, GqlServerError, TimedOut, Unavailable
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import EMAIL, Batches, cells, working
from tests.support.builder import DistrictBuilder
from tests.support.server import serving

pytestmark = pytest.mark.slow

PATIENCE = 30
READ = {"query": "{ people(first: 5) { edges { node { id } } } }"}
WRITE = """mutation write($input: SetPreferencesInput!) {
  setPreferences(input: $input) { person { id } userErrors { code } }
}"""


@pytest.fixture
async def hurried(dsn: str, db: Pool) -> AsyncIterator[Pool]:
    """A pool on the same database whose locks and statements must not last."""
    pool = await open_pool(dsn, max_size=8, lock_timeout=0.3, statement_timeout=2, acquire_timeout=1)
    yield pool
    await pool.close()


def write(person: int, *, on: bool = True) -> dict[str, Any]:
    cell = {"contactPoint": "EMAIL", "method": "EMAIL", "reason": "GENERAL", "on": on}
    return {"query": WRITE, "variables": {"input": {"personId": f"person_{person}", "cells": [cell]}}}


def errors(answer: Any) -> set[tuple[str, str]]:
    return {(each["extensions"]["code"], each["message"]) for each in answer.get("errors", ())}


def codes(answer: Any) -> set[str]:
    return {code for code, _ in errors(answer)}


async def test_a_lock_on_one_district_keeps_no_other_waiting(
    db: Pool, hurried: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A foreign lock on a district's row and 24 who write there: every read, and another district's write, is
    answered all the while; each of the writers is told BUSY with words, and has written nothing."""
    person = await district.person(email="ada@example.org")
    birch = await DistrictBuilder.create(district.conn, host, "birch")
    neighbour = await birch.person(email="sam@example.org")
    told: list[Any] = []
    async with serving(hurried, host, "maple") as server:
        theirs = server.token(district="birch")

        async def writer(number: int) -> None:
            while not released.is_set():
                told.append((await server.post(write(person), token=server.token()))[1])

        released = asyncio.Event()
        async with db.transaction() as conn:
            await conn.execute("select 1 from district where code = 'maple' for update")
            writers = [asyncio.create_task(writer(number)) for number in range(24)]
            await asyncio.sleep(0.2)
            async with asyncio.timeout(PATIENCE):
                for n in range(30):
                    for token in (server.token(), theirs):
                        _, answer = await server.post(READ, token=token)
                        assert "errors" not in answer, answer
                    _, answer = await server.post(write(neighbour, on=bool(n % 2)), token=theirs)
                    assert "errors" not in answer, answer
            while len(told) < 24:
                await asyncio.sleep(0.05)
            released.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*writers)
        assert set().union(*map(codes, told)) == {"BUSY"}
        assert all("Nothing was written" in words for answer in told for _, words in errors(answer))
        assert await district.on(person, ContactPointKind.EMAIL) == []
        _, answer = await server.post(write(person), token=server.token())
        assert "errors" not in answer
    assert await district.on(person, ContactPointKind.EMAIL) == ["GENERAL"]


async def test_reads_that_wait_for_a_lock_or_last_are_told_so(
    db: Pool, dsn: str, hurried: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A read that a lock holds up is answered with BUSY, one that takes too long with TIMEOUT, never INTERNAL."""
    strict = await open_pool(dsn, lock_timeout=5, statement_timeout=0.2)
    async with db.transaction() as conn:
        await conn.execute("lock table person in access exclusive mode")
        for pool, code in ((hurried, "BUSY"), (strict, "TIMEOUT")):
            async with serving(pool, host, "maple") as server:
                _, answer = await server.post(READ, token=server.token())
            assert codes(answer) == {code}
    await strict.close()


@pytest.mark.parametrize(
    ("sqlstate", "error"),
    [
        ("55P03", Busy), ("40001", Busy), ("40P01", Busy), ("57014", TimedOut), ("25P03", TimedOut),
        ("53000", Unavailable), ("53100", Unavailable), ("53200", Unavailable), ("53300", Unavailable),
        ("57P01", Unavailable), ("57P02", Unavailable), ("57P03", Unavailable), ("57P05", Unavailable),
        ("08006", Unavailable), ("08P01", Unavailable), ("26000", Unavailable),
    ],
)  # fmt: skip
async def test_what_passes_is_told_as_that(db: Pool, sqlstate: str, error: type[GqlServerError]) -> None:
    """No fault of the database that may pass is an unexpected error, and its words hold none of PostgreSQL's."""
    with pytest.raises(error) as told:
        async with db.acquire() as conn:
            await conn.execute(f"do $$ begin raise exception 'secret' using errcode = '{sqlstate}'; end $$")
    assert "secret" not in str(told.value)
    assert getattr(told.value.__cause__, "sqlstate", "") == sqlstate
    async with db.acquire() as conn:
        assert await conn.fetchval("select 1") == 1


async def test_a_statement_may_have_a_time_of_its_own(db: Pool) -> None:
    """What takes longer than its caller gives it is stopped and told as TimedOut, and its connection is fit again."""
    with pytest.raises(TimedOut):
        async with db.acquire() as conn:
            await conn.fetchval("select pg_sleep(20)", timeout=0.05)
    async with asyncio.timeout(PATIENCE), db.acquire() as conn:
        assert await conn.fetchval("select count(*) from pg_stat_activity where query = 'select pg_sleep(20)'"
                                   " and state = 'active'") == 0  # fmt: skip


async def test_faults_of_a_statement_stay_what_they_are(db: Pool) -> None:
    """An error that lies in the SQL is not hidden as one that passes."""
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with db.acquire() as conn:
            await conn.fetchval("select 1 / 0")


async def test_a_full_pool_and_a_lost_connection_are_told_apart(dsn: str) -> None:
    """Where all connections are in use it says so; where one is cut in the middle it says that; both pass."""
    pool = await open_pool(dsn, min_size=1, max_size=1, acquire_timeout=0.1)
    async with pool.acquire() as conn:
        with pytest.raises(Busy, match="in use"):
            async with pool.acquire():
                pass
        pid = await conn.fetchval("select pg_backend_pid()")

    async def cut() -> None:
        async with pool.acquire() as conn, connect(dsn) as other:
            await other.execute("select pg_terminate_backend($1)", pid)
            await conn.execute("select pg_sleep(10)")

    with pytest.raises(Unavailable, match="lost"):
        await cut()
    await pool.close()


async def test_a_run_waits_out_a_lock(
    db: Pool, hurried: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A batch that cannot have the district's row for several lock timeouts is not failed for it: it waits, says so
    in the log, keeps its lease, and is done when the lock is gone (D21)."""
    school = await district.school()
    person = await district.student(school, email="ada@example.org")
    batches = Batches(hurried, host, district, BatchWorker(hurried, host, poll_seconds=0.05))
    with structlog.testing.capture_logs() as logged:
        async with db.transaction() as conn:
            await conn.execute("select 1 from district for no key update")
            async with working(batches.worker):
                run = await batches.run(*cells(EMAIL, "GENERAL"), wait=0)
                async with asyncio.timeout(PATIENCE):
                    while len([e for e in logged if e["event"] == "batch_run_delayed"]) < 3:
                        await asyncio.sleep(0.05)
                await conn.execute("commit")  # the lock goes while the worker works
                assert (await batches.ended(run))["status"] == "DONE"
                await conn.execute("begin")
    assert {e["sqlstate"] for e in logged if e["event"] == "batch_run_delayed"} == {"55P03"}
    assert await district.on(person, ContactPointKind.EMAIL) == ["GENERAL"]


async def test_a_connection_is_replaced_after_so_much_sql(dsn: str) -> None:
    """PostgreSQL keeps memory for what was prepared: after so many bytes of it the connection is another; what is
    prepared already costs none."""
    pool = await open_pool(dsn, min_size=1, max_size=1, max_prepared_bytes=2000)

    async def ask(text: str) -> int:
        async with pool.acquire() as conn:
            await conn.fetchval(text)
            return int(await conn.fetchval("select pg_backend_pid()"))

    first = await ask("select 1")
    for _ in range(50):
        assert await ask("select " + "1 + " * 200 + "1") == first
    await ask("select " + "1 + " * 300 + "1")
    assert await ask("select 1") != first
    await pool.close()


async def test_an_answer_to_another_question_ends_its_connection(dsn: str) -> None:
    """Who finds that an answer is not for them is the last to use that connection, and it is logged loudly."""
    pool = await open_pool(dsn, min_size=1, max_size=1)
    pids = []

    async def ask() -> None:
        async with pool.acquire() as conn:
            pids.append(await conn.fetchval("select pg_backend_pid()"))
            raise AnswerMismatch("maple", "GUARDIAN")

    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            with pytest.raises(AnswerMismatch):
                await ask()
    assert pids[0] != pids[1]
    told = {"event": "answer_mismatched", "district": "maple", "role": "GUARDIAN", "pooler": False}
    assert logged == [{**told, "log_level": "critical"}] * 2
    await pool.close()


async def test_a_cancelled_statement_leaves_its_connection_fit(db: Pool, dsn: str) -> None:
    """Who is cancelled in the middle of a statement gives a connection back on which the next is answered."""
    pool = await open_pool(dsn, min_size=1, max_size=1)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), pool.acquire() as conn:
                await conn.fetchval("select pg_sleep(20)")
        async with asyncio.timeout(PATIENCE), pool.acquire() as conn:
            assert await conn.fetchval("select 7") == 7
    async with db.acquire() as conn:
        assert await conn.fetchval("select count(*) from pg_stat_activity where query like '%pg_sleep(20)%'"
                                   " and state = 'active' and pid <> pg_backend_pid()") == 0  # fmt: skip
    await pool.close()
