"""The connection pool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg

from gql_server.db.listen import listening
from gql_server.db.protocols import Connection
from gql_server.errors import ConfigurationError, Unavailable

_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
)

_UNUSABLE = (
    "GQL_SERVER_DATABASE_URL cannot be used. Look at its host, port and the options after the question mark."
)


class _LeanConnection(asyncpg.Connection):
    """A connection that is not reset at release, which saves a round trip a request.

    Therefore nothing may leave session state behind: settings are `set local`, temporary tables `on commit drop`.
    """

    def get_reset_query(self) -> str:
        return ""


class Pool:
    """A `Database` on an asyncpg pool."""

    def __init__(self, dsn: str, pool: "asyncpg.Pool[Any]", acquire_timeout: float) -> None:
        self._dsn = dsn
        self._pool = pool
        self._acquire_timeout = acquire_timeout

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Give a connection for the length of the block. Raises Unavailable where none can be had."""
        try:
            conn = await self._pool.acquire(timeout=self._acquire_timeout)
        except (TimeoutError, *_LOST) as error:
            raise Unavailable("The database cannot be reached now. Try again.") from error
        try:
            yield cast(Connection, conn)
        except _LOST as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # what fails in its clean-up must not hide that
                raise asyncio.CancelledError from error
            raise Unavailable("The connection to the database was lost. Try again.") from error
        finally:
            await self._pool.release(conn)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.acquire() as conn, conn.transaction():
            yield conn

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[AsyncIterator[str]]:
        """Give the payloads that are notified on a channel from now on, until the connection is lost.

        It is one of its own, outside the pool. Through a pooler that hands connections on after each transaction
        nothing is heard. Raises Unavailable.
        """
        async with connect(self._dsn) as conn, listening(conn, channel) as payloads:
            yield payloads

    async def close(self) -> None:
        await self._pool.close()


async def _prepare(conn: Any) -> None:
    # A compiled read's answer goes to the client as the bytes that PostgreSQL sent.
    await conn.set_type_codec("json", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")


async def open_pool(
    dsn: str,
    *,
    min_size: int = 2,
    max_size: int = 10,
    acquire_timeout: float = 10,
    statement_timeout: float = 60,
    application_name: str = "gql-server",
) -> Pool:
    """Connect to PostgreSQL. Times are in seconds. Raises Unavailable where the server does not answer."""
    try:
        pool = await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            connection_class=_LeanConnection,
            init=_prepare,
            command_timeout=None,
            statement_cache_size=200,
            max_cacheable_statement_size=256
            * 1024,  # a deep read is a long text; the driver's default is 15 KiB
            server_settings={
                "application_name": application_name,
                "statement_timeout": str(int(statement_timeout * 1000)),
                "idle_in_transaction_session_timeout": str(int(statement_timeout * 1000)),
                "jit": "off",  # compiling a short statement costs more than it saves
            },
        )
    except ValueError:  # of the driver, about the address; its words may hold parts of it
        raise ConfigurationError(_UNUSABLE) from None
    except (TimeoutError, asyncpg.PostgresError, *_LOST) as error:
        raise Unavailable(f"The database cannot be reached: {error}") from error
    assert pool is not None
    return Pool(dsn, pool, acquire_timeout)


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[Connection]:
    """Give one connection without a pool and without timeouts, for commands. Raises Unavailable."""
    try:
        conn = await asyncpg.connect(dsn, server_settings={"jit": "off"})
    except ValueError:  # of the driver, about the address; its words may hold parts of it
        raise ConfigurationError(_UNUSABLE) from None
    except (TimeoutError, asyncpg.PostgresError, *_LOST) as error:
        raise Unavailable(f"The database cannot be reached: {error}") from error
    try:
        yield cast(Connection, conn)
    finally:
        await conn.close()
