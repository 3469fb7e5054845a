"""`gql-server demo`: serves a sample district from an embedded PostgreSQL, and prints tokens to try it."""

import asyncio
import secrets
import shlex
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import orjson
from pydantic import SecretStr

from gql_server.api.auth import Tokens
from gql_server.cli import batch_client, common
from gql_server.db.embedded import create_database, embedded_postgres
from gql_server.db.migrations import migrate
from gql_server.db.pool import connect
from gql_server.domain.viewer import Role
from gql_server.services.sample import SamplePeople, make_sample
from gql_server.settings import Settings

DISTRICT = "demo"
_EXPIRES = timedelta(days=1)
_NEXT_STEP = "\nNext: `gql-server demo` keeps serving, with GraphiQL and a token for each role."
_QUERY = (
    "{ people(first: 3) { edges { node { firstName lastName preferences { contactPoint method on } } } } }"
)


def run_demo(settings: Settings, *, students: int, seed: int, once: bool) -> None:
    """Serve a sample district until interrupted, or with `once` run one sample batch over HTTP and return.

    The data is in a temporary folder, so demos do not share data, and nothing is left behind. Raises
    ConfigurationError if the port is in use.
    """
    key = secrets.token_urlsafe(32)
    forced = {"database_url": None, "signing_key": SecretStr(key), "graphiql": True}
    log_level = {} if "log_level" in settings.model_fields_set else {"log_level": "WARNING"}
    settings = settings.model_copy(update={**forced, **log_level, "port": 0 if once else settings.port})
    _require_port(settings)
    common.stderr.print("Starting PostgreSQL.", style="dim")
    with (
        tempfile.TemporaryDirectory(prefix="gql-server-", ignore_cleanup_errors=True) as folder,
        embedded_postgres(Path(folder), delete=True) as dsn,
    ):
        common.run(_demo(settings, dsn, students=students, seed=seed, once=once))


async def _demo(settings: Settings, server_dsn: str, *, students: int, seed: int, once: bool) -> None:
    from gql_server.app import serve

    tokens = Tokens.of(settings)
    dsn = await create_database(server_dsn, DISTRICT)
    people = await _make_sample(settings, dsn, students, seed)
    if once:
        admin = tokens.issue(DISTRICT, Role.ADMIN, None, _EXPIRES)
        await _while_serving(settings, dsn, lambda url: batch_client.run_sample_batch(url, admin))
        common.print_text(_NEXT_STEP)
    else:
        await serve(settings, dsn, ready=lambda url: _welcome(url, tokens, people))


async def _make_sample(settings: Settings, dsn: str, students: int, seed: int) -> SamplePeople:
    from gql_server.app import make_host

    host = make_host(settings)
    with common.stderr.status("Making the database") as status:
        async with connect(dsn) as conn:
            await migrate(conn)
            people = await make_sample(
                conn, host, code=DISTRICT, students=students, seed=seed,
                report=lambda message: status.update(f"Making a sample district: {message}"),
            )  # fmt: skip
    rows = people.counts
    preferences = rows["preference"] + rows["household_preference"]
    common.print_text(
        f"A sample district: {students:,} students, {rows['person']:,} people,"
        f" {rows['household']:,} households, {preferences:,} preference rows (seed {seed})."
    )
    return people


async def _while_serving(settings: Settings, dsn: str, work: Callable[[str], Awaitable[None]]) -> None:
    """Start a server, do some work with it, and stop it. Raises the errors of both."""
    from gql_server.app import serve

    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(settings, dsn, ready=listening.set_result))
    # If the server ends before it listens, the wait for it must end too.
    serving.add_done_callback(lambda _: listening.cancel())
    try:
        await work(await listening)
    except asyncio.CancelledError:
        if not serving.done():
            raise
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def _require_port(settings: Settings) -> None:
    """Raise ConfigurationError if the port cannot be used, before anything is created."""
    from gql_server.app import cannot_listen

    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except (OSError, UnicodeError) as error:
            raise cannot_listen(settings, error) from error


def _welcome(url: str, tokens: Tokens, people: SamplePeople) -> None:
    """Print a token for each role, and a command to try. Tokens are not wrapped, so that they can be copied."""
    bearers = {
        "administrator": (Role.ADMIN, None),
        "guardian": (Role.GUARDIAN, people.guardian),
        "student": (Role.STUDENT, people.student),
        "staff member": (Role.STAFF, people.staff),
        "vendor": (Role.VENDOR, None),
    }
    issued = {
        name: tokens.issue(DISTRICT, role, person, _EXPIRES) for name, (role, person) in bearers.items()
    }
    rows = [("Role", "Person", "Token (valid for a day)")]
    rows += [(name, bearers[name][1] or "-", token) for name, token in issued.items()]
    for (
        name,
        person,
        token,
    ) in rows:  # nothing follows a token: on a narrow terminal its line alone goes on below
        common.print_line(f"{name:<15}{person:<10}{token}")
    common.print_line(f"\nGraphiQL: {url}/graphql")
    common.print_line('Give it the header {"Authorization": "Bearer <token>"}.\nOr try:\n')
    common.print_line(_curl(f"{url}/graphql", issued["administrator"]))
    common.print_line("\nPress Ctrl+C to stop; nothing is kept.")


def _curl(url: str, token: str) -> str:
    arguments = [
        "curl",
        "-s",
        url,
        "-H",
        f"Authorization: Bearer {token}",
        "-H",
        "Content-Type: application/json",
    ]
    return shlex.join([*arguments, "-d", orjson.dumps({"query": _QUERY}).decode()])
