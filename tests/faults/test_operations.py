"""What an operator meets: a database that stands still, is only read, or was upgraded; settings that cannot be."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from gql_server.db.pool import Pool, open_pool
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import EMAIL, Batches, cells, working
from tests.support.builder import DistrictBuilder
from tests.support.command import COMMAND, environment, gql_server, refusal
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

PATIENCE = 30
READ = {"query": "{ people(first: 5) { edges { node { id } } } }"}
WRITE = """mutation write($input: SetPreferencesInput!) {
  setPreferences(input: $input) { person { id } userErrors { code } }
}"""
KEY = "a key for tests only, long enough to be one"


def write(person: int) -> dict[str, Any]:
    cell = {"contactPoint": "EMAIL", "method": "EMAIL", "reason": "GENERAL", "on": True}
    return {"query": WRITE, "variables": {"input": {"personId": f"person_{person}", "cells": [cell]}}}


def codes(answer: Any) -> set[str]:
    return {each["extensions"]["code"] for each in answer.get("errors", ())}


async def readiness(server: TestServer) -> tuple[int, Any]:
    async with server.session.get(f"{server.url}/readyz") as response:
        return response.status, await response.json()


@asynccontextmanager
async def frozen(pool: Pool, size: int) -> AsyncIterator[None]:
    """Let the processes of a pool's connections stand still for the length of the block."""
    taken = [pool.acquire() for _ in range(size)]
    pids = [await (await each.__aenter__()).fetchval("select pg_backend_pid()") for each in taken]
    for each in taken:
        await each.__aexit__(None, None, None)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
async def test_a_database_that_stands_still_is_told(
    dsn: str, host: PluginHost, district: DistrictBuilder
) -> None:
    """A database that stops answering keeps no request for ever: reads and writes are TIMEOUT, and /readyz is not
    ready; nobody waits for it to confirm that it has stopped a statement."""
    person = await district.person(email="ada@example.org")
    pool = await open_pool(dsn, min_size=8, max_size=8, statement_timeout=1, acquire_timeout=1)
    async with serving(pool, host, "maple") as server:
        await server.post(READ, token=server.token())
        async with frozen(pool, 8), asyncio.timeout(PATIENCE):
            (_, read), (_, written), (status, said) = await asyncio.gather(
                server.post(READ, token=server.token()),
                server.post(write(person), token=server.token()),
                readiness(server),
            )
        assert (codes(read), codes(written), status) == ({"TIMEOUT"}, {"TIMEOUT"}, 503)
        assert "not answered" in said["because"]
    await pool.close()


async def test_long_statements_of_a_plan_are_not_cut(db: Pool, dsn: str) -> None:
    """A transaction with a time of its own outlasts what others may take, by both clocks; what follows does not."""
    pool = await open_pool(dsn, min_size=1, max_size=1, statement_timeout=0.05)
    for _ in range(2):
        async with pool.transaction(statement_seconds=30) as conn:
            assert await conn.fetchval("show statement_timeout") == "30s"
            assert conn._config.command_timeout > 30  # type: ignore[attr-defined]
            await conn.fetchval("select pg_sleep(0.2)")
    async with pool.acquire() as conn:
        assert await conn.fetchval("show statement_timeout") == "50ms"
        assert conn._config.command_timeout < 30  # type: ignore[attr-defined]
    await pool.close()


async def test_a_database_that_can_only_be_read(
    dsn: str, host: PluginHost, district: DistrictBuilder
) -> None:
    """On a standby writes are UNAVAILABLE and say whom to tell, /readyz is not ready, and the worker's log has
    PostgreSQL's reason."""
    person = await district.person(email="ada@example.org")
    await district.conn.execute(
        "do $$ begin execute format('alter database %I set default_transaction_read_only = on',"
        " current_database()); end $$"
    )
    pool = await open_pool(dsn, min_size=1, max_size=8)
    with structlog.testing.capture_logs() as logged:
        async with serving(pool, host, "maple") as server, asyncio.timeout(PATIENCE):
            assert (await server.post(READ, token=server.token()))[1].keys() == {"data"}
            _, answer = await server.post(write(person), token=server.token())
            assert codes(answer) == {"UNAVAILABLE"}
            assert "Tell the operator of the server" in answer["errors"][0]["message"]
            status, said = await readiness(server)
            assert (status, "read-only" in said["because"]) == (503, True)
            while not (told := [e for e in logged if e["event"] == "batch_worker_interrupted"]):
                await asyncio.sleep(0.05)
    assert told[0]["sqlstate"] == "25006"
    assert "read-only transaction" in told[0]["reason"]
    await pool.close()


async def test_a_user_who_lacks_a_right(dsn: str, host: PluginHost, district: DistrictBuilder) -> None:
    """Where the database's user may not write, a write is UNAVAILABLE and says whom to tell."""
    person = await district.person(email="ada@example.org")
    await district.conn.execute("create role onlooker login")
    try:
        await district.conn.execute("grant select on all tables in schema public to onlooker")
        pool = await open_pool(dsn.replace("//postgres:@", "//onlooker:@"), min_size=1)
        async with serving(pool, host, "maple") as server:
            _, answer = await server.post(write(person), token=server.token())
        await pool.close()
    finally:
        await district.conn.execute("drop owned by onlooker; drop role onlooker")
    assert codes(answer) == {"UNAVAILABLE"}
    assert "lacks a right" in answer["errors"][0]["message"]


async def test_a_newer_schema_takes_no_running_server_out(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A server that runs stays ready when a newer version migrates: it says so in /readyz, and in the log once."""
    with structlog.testing.capture_logs() as logged:
        async with serving(db, host, "maple") as server:
            await district.conn.execute("insert into migration (name, checksum) values ('9999_later', 'x')")
            for _ in range(3):
                status, said = await readiness(server)
                assert (status, said["status"], said["schema"]) == (200, "ready", "newer")
    assert len([e for e in logged if e["event"] == "newer_schema_found"]) == 1


async def test_the_runs_of_a_newer_schema_wait_for_a_server_that_knows_it(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A worker leaves every run alone once a newer version has migrated: it would fail in tables that it does not know.
    The run stays queued, and is done as soon as a worker knows the schema."""
    await district.student(await district.school(), email="ada@example.org")
    await district.conn.execute("insert into migration (name, checksum) values ('9999_later', 'x')")
    batches = Batches(db, host, district, BatchWorker(db, host, poll_seconds=0.02))
    async with working(batches.worker):
        run = await batches.run(*cells(EMAIL, "GENERAL"), wait=1)
        assert (await batches.row(run))["status"] == "QUEUED"
        await district.conn.execute("delete from migration where name = '9999_later'")
        async with asyncio.timeout(PATIENCE):
            while (await batches.row(run))["status"] != "DONE":
                await asyncio.sleep(0.02)


async def test_a_run_on_a_full_disk_is_tried_ever_less_often(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """Each failure in a row is one line with run, district and PostgreSQL's reason, and the pause doubles; when there
    is room again the run is done."""
    school = await district.school()
    await district.student(school, email="ada@example.org")
    await district.conn.execute(
        "create function full_disk() returns trigger language plpgsql as"
        " $$ begin raise exception 'could not extend file' using errcode = '53100'; end $$;"
        " create trigger full_disk before insert or update on preference for each row execute function full_disk()"
    )
    batches = Batches(db, host, district, BatchWorker(db, host, poll_seconds=0.05, workers=1))
    with structlog.testing.capture_logs() as logged:
        async with working(batches.worker), asyncio.timeout(PATIENCE):
            run = await batches.run(*cells(EMAIL, "GENERAL"), wait=0)
            while len(told := [e for e in logged if e["event"] == "batch_worker_interrupted"]) < 3:
                await asyncio.sleep(0.05)
            await district.conn.execute("drop trigger full_disk on preference")
            assert (await batches.ended(run))["status"] == "DONE"
    assert [e["again_in"] for e in told[:3]] == [0.05, 0.1, 0.2]
    assert {e["district"] for e in told} == {"maple"}
    assert all(e["run"] and e["sqlstate"] == "53100" and "extend file" in e["reason"] for e in told)


@pytest.mark.parametrize("address", ["ä..b", "192.0.2.1"])
def test_an_address_of_others_is_told(server_dsn: str, template: str, address: str) -> None:
    """An address that is not this machine's, or is none, is told as that: another port would not help."""
    settings = {"DATABASE_URL": server_dsn.format(database=template), "SIGNING_KEY": KEY, "PORT": "0"}
    told = refusal(gql_server("serve", settings={**settings, "HOST": address}))
    assert "GQL_SERVER_HOST" in told
    assert "GQL_SERVER_PORT" not in told


@pytest.mark.slow
async def test_a_host_that_says_nothing_is_told() -> None:
    """`serve` gives up on what accepts its connection and stays silent, and says where to look."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        url = f"postgresql://ann@127.0.0.1:{silent.sockets[0].getsockname()[1]}/maple"
        settings = {"DATABASE_URL": url, "SIGNING_KEY": KEY}
        told = refusal(await asyncio.to_thread(gql_server, "serve", settings=settings, timeout=50))
    assert "nothing answered" in told
    assert "GQL_SERVER_DATABASE_URL" in told


async def test_migrate_with_nothing_to_do_only_reads(dsn: str, district: DistrictBuilder) -> None:
    """Who may only SELECT may run `migrate` where nothing is pending and no district lacks a reason."""
    await district.conn.execute("create role reader login")
    try:
        await district.conn.execute("grant select on all tables in schema public to reader")
        settings = {"DATABASE_URL": dsn.replace("//postgres:@", "//reader:@")}
        migrated = await asyncio.to_thread(gql_server, "migrate", settings=settings)
    finally:
        await district.conn.execute("drop owned by reader; drop role reader")
    assert (migrated.returncode, migrated.stderr) == (0, "")


async def test_a_stop_before_the_start_says_nothing(tmp_path: Path) -> None:
    """SIGTERM that comes just before the loop runs ends the command without a warning."""
    (tmp_path / "uvloop.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    settings = {"DATABASE_URL": "postgresql://ann@127.0.0.1:1/maple", "SIGNING_KEY": KEY}
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), "serve",
        env={**environment(settings), "PYTHONPATH": str(tmp_path)}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, complaints = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, complaints) == (143, b"")


async def test_a_misspelt_variable_is_logged(server_dsn: str) -> None:
    """`serve` names variables that begin like settings and are none; those of other commands are left alone."""
    settings = {
        "DATABASE_URL": server_dsn.format(database="nowhere_at_all"),
        "SIGNING_KEY": KEY, "PROT": "1", "URL": "x", "TOKEN": "y",
    }  # fmt: skip
    ended = await asyncio.to_thread(gql_server, "serve", settings=settings)
    (line,) = [each for each in ended.stderr.splitlines() if "unknown_settings" in each]
    assert "GQL_SERVER_PROT" in line
    assert "GQL_SERVER_URL" not in line
