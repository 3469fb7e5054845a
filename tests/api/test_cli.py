"""The command line, as processes: what it prints, what it refuses, and with which words and exit code."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from gql_server import __version__
from gql_server.api.auth import Tokens
from gql_server.cli.app import app
from gql_server.db.migrations import migrations, pending
from gql_server.db.pool import connect
from gql_server.db.protocols import Connection
from gql_server.domain.viewer import Role
from tests.support.builder import DistrictBuilder
from tests.support.command import COMMAND, environment, gql_server, refusal
from tests.support.folders import database_folder

pytestmark = pytest.mark.slow

KEY = "a key for tests only, long enough to be one"
PLUGIN = """
from gql_server.hooks import ContactReason, hookimpl

@hookimpl
def contact_reasons():
    return [ContactReason("SNOW_DAY", "Snow day", "School is closed because of the weather.")]
"""


@pytest.fixture
async def empty_dsn(server_dsn: str) -> str:
    """A database without anything."""
    async with connect(server_dsn.format(database="postgres")) as conn:
        await conn.execute("drop database if exists empty")
        await conn.execute("create database empty")
    return server_dsn.format(database="empty")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for an embedded PostgreSQL."""
    with database_folder() as folder:
        yield folder / "data"


def test_the_version_is_that_of_the_package() -> None:
    """`--version` prints the version alone and ends well."""
    result = gql_server("--version")
    assert (result.returncode, result.stdout) == (0, f"gql-server {__version__}\n")


def test_settings_are_listed_without_secrets() -> None:
    """`settings` shows every variable, masks the secrets, and points out a misspelt one."""
    url = "postgresql://ann:sesame@db.example.org/maple"
    result = gql_server("settings", settings={"DATABASE_URL": url, "SIGNING_KEY": KEY, "PROT": "1"})
    assert result.returncode == 0
    assert "postgresql://ann:********@db.example.org/maple" in result.stdout
    assert "GQL_SERVER_MAX_VENDOR_PAGE_SIZE" in result.stdout
    assert "GQL_SERVER_PROT" in result.stderr
    assert not {"sesame", KEY} & set(result.stdout.split())


def test_plugins_are_listed(tmp_path: Path) -> None:
    """`plugins` names the built-in plug-ins and a district's own, with their hooks, and says which are off."""
    (tmp_path / "snow.py").write_text(PLUGIN)
    result = gql_server("plugins", settings={"PLUGINS_DIR": str(tmp_path), "DISABLED_PLUGINS": "opt_outs"})
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert rows["standard_reasons"] == ["-", "-", "yes", "contact_reasons"]
    assert rows["snow"] == ["-", "-", "yes", "contact_reasons"]
    assert rows["opt_outs"] == ["-", "-", "no"]


def test_a_plugin_at_fault_stops_the_start(tmp_path: Path) -> None:
    """A plug-in that cannot be loaded is named in one line."""
    (tmp_path / "snow.py").write_text("1 / 0")
    message = refusal(gql_server("plugins", settings={"PLUGINS_DIR": str(tmp_path)}))
    assert "'snow'" in message
    assert "ZeroDivisionError" in message


def test_a_setting_that_cannot_be_used_stops_the_start() -> None:
    """A bad value is answered with the variable's name."""
    assert "GQL_SERVER_PORT" in refusal(gql_server("serve", settings={"PORT": "eighty"}))


def test_a_token_is_printed_alone() -> None:
    """`token` prints a token and nothing else; it says what was asked for and holds for as long."""
    result = gql_server(
        *("token", "--district", "maple", "--role", "guardian", "--person", "P1", "--expires", "15m"),
        settings={"SIGNING_KEY": KEY},
    )
    token = result.stdout.removesuffix("\n")
    claims = Tokens(KEY).verify(token)
    assert (claims.district, claims.role, claims.person) == ("maple", Role.GUARDIAN, "P1")
    assert abs(claims.expires - datetime.now(UTC) - timedelta(minutes=15)) < timedelta(minutes=1)
    assert result.stderr == ""


def test_a_token_needs_a_key_and_a_person() -> None:
    """Without a signing key, or a person where the role needs one, no token is made."""
    command = ("token", "--district", "maple", "--role", "student")
    assert "token_urlsafe" in refusal(gql_server(*command))
    assert "must name a person" in refusal(gql_server(*command, settings={"SIGNING_KEY": KEY}))


@pytest.mark.parametrize("expires", ["", "1", "h", "0h", "-1h", "1w", "1.5h", "99999999d", "999999999999d"])
def test_a_length_of_time_must_be_one(expires: str) -> None:
    """What is not a length of time is answered with an example of one."""
    command = ["token", "--district", "maple", "--role", "admin", f"--expires={expires}"]
    result = CliRunner().invoke(app, command, env={"GQL_SERVER_SIGNING_KEY": KEY})
    assert result.exit_code == 2
    assert "15m" in result.stderr


def test_serve_needs_a_signing_key(data_dir: Path) -> None:
    """`serve` without a signing key says how to make one, and starts no database."""
    assert "token_urlsafe" in refusal(gql_server("serve", settings={"DATA_DIR": str(data_dir)}))
    assert not data_dir.exists()


async def test_serve_applies_nothing(empty_dsn: str) -> None:
    """Against a database that is not migrated `serve` stops, says what to run, and changes nothing."""
    settings = {"DATABASE_URL": empty_dsn, "SIGNING_KEY": KEY}
    message = refusal(await asyncio.to_thread(gql_server, "serve", settings=settings))
    assert "gql-server migrate" in message
    async with connect(empty_dsn) as conn:
        assert await conn.fetchval("select count(*) from pg_class where relname = 'migration'") == 0


async def test_migrate_applies_all_once(empty_dsn: str) -> None:
    """`migrate` brings an empty database up to date; a second time it finds nothing to do."""
    settings = {"DATABASE_URL": empty_dsn}
    first = await asyncio.to_thread(gql_server, "migrate", settings=settings)
    assert first.returncode == 0
    assert all(f"Applied {migration.name}." in first.stdout for migration in migrations())
    async with connect(empty_dsn) as conn:
        assert await pending(conn) == []
    second = await asyncio.to_thread(gql_server, "migrate", settings=settings)
    assert "up to date" in second.stdout


async def test_migrate_changes_no_tables_under_a_server(empty_dsn: str) -> None:
    """Where migrations are pending and a server is connected, `migrate` says from where and what to do, and changes
    nothing; --while-connected goes on nevertheless. With nothing pending nobody is asked to leave."""
    settings = {"DATABASE_URL": empty_dsn}
    async with connect(empty_dsn) as server:
        told = refusal(await asyncio.to_thread(gql_server, "migrate", settings=settings))
        assert "1 session(s) of gql-server from a local socket" in told
        assert "--while-connected" in told
        assert await server.fetchval("select to_regclass('migration')") is None
        forced = await asyncio.to_thread(gql_server, "migrate", "--while-connected", settings=settings)
        assert f"Applied {migrations()[-1].name}." in forced.stdout
        again = await asyncio.to_thread(gql_server, "migrate", settings=settings)
        assert "up to date" in again.stdout


async def test_migrate_lets_other_programs_be_connected(empty_dsn: str) -> None:
    """A session that is not a server's, such as psql, keeps nothing from being migrated."""
    async with connect(empty_dsn, application_name="psql"):
        migrated = await asyncio.to_thread(gql_server, "migrate", settings={"DATABASE_URL": empty_dsn})
    assert f"Applied {migrations()[-1].name}." in migrated.stdout


def test_too_many_workers_are_told_by_the_option() -> None:
    """A number that `serve --workers` was given is refused in the option's name, not in that of the variable."""
    result = CliRunner().invoke(app, ["serve", "--workers", "300"], env={"GQL_SERVER_SIGNING_KEY": KEY})
    assert result.exit_code == 2
    assert "--workers" in result.stderr
    assert "GQL_SERVER_WORKERS" not in result.stderr


async def test_migrate_gives_a_new_reason_its_place(
    district: DistrictBuilder, dsn: str, tmp_path: Path
) -> None:
    """`migrate` gives districts a bit for a plug-in's reason (D3)."""
    (tmp_path / "snow.py").write_text(PLUGIN)
    settings = {"DATABASE_URL": dsn, "PLUGINS_DIR": str(tmp_path)}
    migrated = await asyncio.to_thread(gql_server, "migrate", settings=settings)
    assert "Registered reasons with districts: 1." in migrated.stdout
    bits = await district.conn.fetchval("select bit from contact_reason where code = 'SNOW_DAY'")
    assert bits == 8


@asynccontextmanager
async def serve_process(settings: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `gql-server serve` for the length of the block."""
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), "serve",
        env=environment({"SIGNING_KEY": KEY, "PORT": "0", **settings}),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_a_district_that_lacks_a_reason_stops_no_server(
    district: DistrictBuilder, dsn: str, tmp_path: Path
) -> None:
    """`serve` starts where a district has no bit for a plug-in's reason: it logs that, and /readyz counts, without
    names; nobody else pays for it."""
    (tmp_path / "snow.py").write_text(PLUGIN)
    async with serve_process({"DATABASE_URL": dsn, "PLUGINS_DIR": str(tmp_path)}) as process:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        url = line.split()[-1].removesuffix("/graphql")
        with await asyncio.to_thread(urlopen, f"{url}/readyz") as answer:
            said = json.load(answer)
        assert said == {"status": "ready", "pooler": "no", "districtsThatLackReasons": 1}
        process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert "SNOW_DAY" in log.decode()
    assert "gql-server migrate" in log.decode()


async def test_a_newer_schema_stops_the_start(dsn: str) -> None:
    """No command works on a database that a newer version has migrated; the migration and what to do are named."""
    async with connect(dsn) as conn:
        await conn.execute("insert into migration (name, checksum) values ('9999_later', 'x')")
    for command in (("serve",), ("migrate",), ("import", "edfi", ".", "--district", "maple")):
        settings = {"DATABASE_URL": dsn, "SIGNING_KEY": KEY}
        message = refusal(await asyncio.to_thread(gql_server, *command, settings=settings))
        assert "9999_later" in message
        assert "newer version" in message


async def test_migrate_creates_nothing_where_nothing_is_pending(dsn: str) -> None:
    """A user who may not create anything may run `migrate` on a database that is up to date; where they may not do
    what is needed, that is one line."""
    async with connect(dsn) as conn:
        await conn.execute("drop owned by plain; drop role plain" if await _has_plain(conn) else "select 1")
        await conn.execute("create role plain login")
        await conn.execute("grant select, insert, update on all tables in schema public to plain")
        settings = {"DATABASE_URL": dsn.replace("//postgres:@", "//plain:@"), "SIGNING_KEY": KEY}
        migrated = await asyncio.to_thread(gql_server, "migrate", settings=settings)
        assert migrated.returncode == 0, migrated.stderr
        assert "up to date" in migrated.stdout
        await conn.execute("revoke select on migration from plain")
        for command in ("migrate", "serve"):
            message = refusal(await asyncio.to_thread(gql_server, command, settings=settings))
            assert "permission denied for table migration" in message
        await conn.execute("drop owned by plain; drop role plain")


async def _has_plain(conn: Connection) -> bool:
    return bool(await conn.fetchval("select exists (select from pg_roles where rolname = 'plain')"))


async def test_migrate_lets_others_pass(district: DistrictBuilder, dsn: str, tmp_path: Path) -> None:
    """`migrate` waits for a lock no longer than the setting: it gives way to others and tries again, with a line each
    time. When it never gets the lock it says so and has changed nothing; otherwise it does its work."""
    (tmp_path / "snow.py").write_text(PLUGIN)
    settings = {"DATABASE_URL": dsn, "PLUGINS_DIR": str(tmp_path), "MIGRATE_LOCK_TIMEOUT": "0.02"}
    async with connect(dsn) as other, other.transaction():
        await other.execute("select from district for update")
        given_up = await asyncio.to_thread(gql_server, "migrate", settings=settings)
    assert "Nothing was changed" in refusal(given_up)
    assert given_up.stdout.count("Trying again") == 9
    assert await district.conn.fetchval("select count(*) from contact_reason where code = 'SNOW_DAY'") == 0
    settings["MIGRATE_LOCK_TIMEOUT"] = "0.5"
    async with connect(dsn) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("select from district for update")
        process = await asyncio.create_subprocess_exec(
            str(COMMAND), "migrate", env=environment(settings), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        while b"Trying again" not in await asyncio.wait_for(process.stdout.readline(), 60):
            pass
        await transaction.rollback()
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert b"Registered reasons with districts: 1." in out


async def test_a_stop_during_the_start_is_heeded() -> None:
    """SIGTERM while `serve` still waits for its database ends it well, without a word."""
    asked = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        async with serve_process(
            {"DATABASE_URL": f"postgresql://ann:sesame@127.0.0.1:{port}/maple"}
        ) as process:
            await asyncio.wait_for(asked.wait(), 60)
            process.terminate()
            out, complaints = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out, complaints) == (0, b"", b"")


def test_a_password_with_an_unescaped_sign_is_not_shown() -> None:
    """An address that can be read in two ways is refused with how to write it; no part of the password is printed."""
    settings = {"DATABASE_URL": "postgresql://ann:sesa@me/op:en@127.0.0.1:1/maple", "SIGNING_KEY": KEY}
    for command in ("serve", "settings"):
        message = refusal(gql_server(command, settings=settings))
        assert "%40" in message
        assert not any(part in message for part in ("sesa", "me/op", "op:en"))


def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    """A server that does not answer is one line on stderr, with no secret in it."""
    settings = {"DATABASE_URL": "postgresql://ann:sesame@127.0.0.1:1/maple", "SIGNING_KEY": KEY}
    for command in ("serve", "migrate"):
        message = refusal(gql_server(command, settings=settings))
        assert "cannot be reached" in message
        assert "sesame" not in message


async def test_serve_serves_until_it_is_told_to_stop(dsn: str) -> None:
    """`serve` says where it listens, answers there, and ends well on SIGTERM."""
    settings = {"DATABASE_URL": dsn, "SIGNING_KEY": KEY, "PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), "serve",
        env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        url = line.split()[-1].removesuffix("/graphql")
        for path in ("/healthz", "/readyz"):
            answer = await asyncio.to_thread(urlopen, f"{url}{path}")
            with answer:
                assert answer.status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0


def test_the_embedded_server_stops_with_the_command(data_dir: Path) -> None:
    """Without a database's address the commands use an embedded one, keep its data, and leave no process behind."""
    settings = {"DATA_DIR": str(data_dir)}
    first, second = (gql_server("migrate", settings=settings) for _ in range(2))
    assert "Applied" in first.stdout
    assert "up to date" in second.stdout
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


async def test_who_shares_an_embedded_server_keeps_it(data_dir: Path) -> None:
    """Of two programs on one folder one is killed: the other goes on. When that has left too, nothing runs."""
    program = "import sys; from pathlib import Path; from gql_server.db.embedded import embedded_postgres\n"
    program += "with embedded_postgres(Path(sys.argv[1])) as dsn: print(dsn, flush=True); sys.stdin.read()"
    first, second = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(data_dir),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(),
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in (first, second):
        assert process.stdout is not None
        dsn = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
    first.kill()
    await first.wait()
    users = data_dir / "postgres" / ".handle_pids.json"
    async with asyncio.timeout(60):
        while json.loads(users.read_text()) != [second.pid]:
            await asyncio.sleep(0.05)
    async with connect(dsn) as conn:
        assert await conn.fetchval("select 1") == 1
    await asyncio.wait_for(second.communicate(b""), 60)
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


def test_an_import_needs_a_migrated_database(data_dir: Path) -> None:
    """`import edfi` on a new database says what to run first; a folder that is not there is named."""
    settings = {"DATA_DIR": str(data_dir)}
    command = ("import", "edfi", str(data_dir / "nowhere"), "--district", "maple")
    assert "gql-server migrate" in refusal(gql_server(*command, settings=settings))
    gql_server("migrate", settings=settings)
    assert "nowhere" in refusal(gql_server(*command, settings=settings))


def test_the_schema_is_printed() -> None:
    """`export-schema` prints SDL alone."""
    result = gql_server("export-schema")
    assert result.returncode == 0
    assert "type Query {" in result.stdout
    assert result.stderr == ""
    assert os.linesep * 2 + os.linesep not in result.stdout
