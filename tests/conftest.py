"""A real PostgreSQL for every test: the embedded server, a migrated template database, a copy of it for each test."""

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from gql_server.db.embedded import embedded_postgres
from gql_server.db.migrations import migrate
from gql_server.db.pool import Pool, connect, open_pool
from gql_server.db.statements import resource_folder
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.folders import database_folder

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """A PostgreSQL for the session, as a DSN with {database} to fill in."""
    with database_folder() as folder, embedded_postgres(folder, delete=True) as dsn:
        yield dsn.replace("/postgres?", "/{database}?")


@pytest.fixture(scope="session")
async def template(server_dsn: str) -> str:
    """The name of a migrated, empty database that nobody is connected to."""
    name = "template_migrated"
    async with connect(server_dsn.format(database="postgres")) as conn:
        # No test outlives its server: what is lost with the machine need not be waited for. The log is kept short,
        # for it may lie in memory.
        for setting in (
            "fsync = off",
            "synchronous_commit = off",
            "full_page_writes = off",
            "max_wal_size = '128MB'",
        ):
            await conn.execute(f"alter system set {setting}")
        await conn.execute("select pg_reload_conf()")
        await conn.execute(f'create database "{name}"')
    async with connect(server_dsn.format(database=name)) as conn:
        await migrate(conn)
    return name


@pytest.fixture(scope="session")
async def fresh_database(
    server_dsn: str, template: str
) -> AsyncIterator[Callable[[], AbstractAsyncContextManager[str]]]:
    """What gives the DSN of a fresh, migrated database for the length of a block."""
    async with connect(server_dsn.format(database="postgres")) as maintenance:

        @asynccontextmanager
        async def fresh() -> AsyncIterator[str]:
            name = f"test_{os.getpid()}_{next(_numbers)}"
            await maintenance.execute(f'create database "{name}" template "{template}" strategy file_copy')
            yield server_dsn.format(database=name)
            await maintenance.execute(f'drop database "{name}" with (force)')

        yield fresh


@pytest.fixture
async def dsn(fresh_database: Callable[[], AbstractAsyncContextManager[str]]) -> AsyncIterator[str]:
    """The DSN of a fresh, migrated database."""
    async with fresh_database() as dsn:
        yield dsn


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Pool]:
    """A pool on a fresh, migrated database."""
    pool = await open_pool(dsn, min_size=1, max_size=8)
    yield pool
    await pool.close()


@pytest.fixture(scope="session")
def builtin_plugins() -> Path:
    return resource_folder("plugins")


@pytest.fixture(scope="session")
def host(builtin_plugins: Path) -> PluginHost:
    """The built-in plug-ins, loaded."""
    return PluginHost([builtin_plugins])


@pytest.fixture
async def district(db: Pool, host: PluginHost) -> AsyncIterator[DistrictBuilder]:
    """An empty district in a fresh database, with methods that add people to it."""
    async with db.acquire() as conn:
        yield await DistrictBuilder.create(conn, host)


def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are processors: tests that wait leave theirs to others."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="write the golden files anew")


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written, not compared."""
    return bool(request.config.getoption("--bless"))
