"""The connection pool."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import asyncpg
import structlog

from gql_server.db.connections import (
    Connector,
    LeanConnection,
    Unnamed,
    close_quietly,
    command_timeout,
    decode_json_as_bytes,
    terminate,
)
from gql_server.db.database_errors import CONNECTION_LOST, DATABASE_ERRORS, is_session_mismatch, translated
from gql_server.db.listen import listening, no_payloads
from gql_server.db.protocols import Connection
from gql_server.db.slots import read_slots, write_slots
from gql_server.domain import defaults
from gql_server.errors import AnswerMismatch, Busy, ConfigurationError, Unavailable

_log = structlog.get_logger(__name__)
_UNREACHABLE = "The database cannot be reached now. Try again."
_SETTINGS = {"jit": "off"}  # compiling a short statement costs more than it saves
_GRACE_SECONDS = 5.0
"""How much longer than `statement_timeout` the driver waits, before it takes PostgreSQL for unreachable."""
_ALL_IN_USE = "Every connection to the database is in use. Try again in a moment."
_INVALID_URL = (
    "GQL_SERVER_DATABASE_URL cannot be used. Check its host, port and the options after the question mark."
)


class Pool:
    """A `Database` on an asyncpg pool. See `open_pool`."""

    def __init__(
        self,
        dsn: str,
        pool: "asyncpg.Pool[Any]",
        connector: Connector,
        *,
        acquire_timeout: float,
        max_prepared_bytes: int,
    ) -> None:
        self._dsn = dsn
        self._pool = pool
        self._connector = connector
        self._acquire_timeout = acquire_timeout
        self._max_prepared_bytes = max_prepared_bytes
        self._read_slots = read_slots(pool.get_max_size(), acquire_timeout)
        self._write_slots = write_slots(pool.get_max_size(), acquire_timeout)

    @property
    def behind_pooler(self) -> bool:
        """Whether connections go through a pooler in transaction mode."""
        return self._connector.behind_pooler

    @asynccontextmanager
    async def acquire(self, district_id: int | None = None) -> AsyncIterator[Connection]:
        """Give a connection for reads during the block.

        The reads of one district share a part of the connections: see db/slots. None is for the server's own work.
        Raises Unavailable if the database cannot be reached, and Busy if all connections, or all of the district's
        part, are in use for too long. An error of the database inside the block is raised as `translated` returns it
        (db/database_errors), with the original as its cause.
        """
        if district_id is None:
            async with self._connection() as conn:
                yield conn
        else:
            async with self._read_slots.slot(district_id), self._connection() as conn:
                yield conn

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        conn = await self._take()
        try:
            yield cast(Connection, conn)
        except AnswerMismatch as error:
            _log.critical(
                "answer_mismatched", district=error.district, role=error.role, pooler=self.behind_pooler
            )
            terminate(conn)
            raise
        except DATABASE_ERRORS as error:
            if is_session_mismatch(error):
                _log.critical(
                    "database_session_mismatched", error=type(error).__name__, pooler=self.behind_pooler
                )
                terminate(conn)
            task = asyncio.current_task()
            if isinstance(error, CONNECTION_LOST) and task is not None and task.cancelling():
                # The clean-up of a cancelled task failed. That must not hide the cancellation.
                raise asyncio.CancelledError from error
            translation = translated(error)
            if translation is None:
                raise
            raise translation from error
        finally:
            await self._release(conn)

    @asynccontextmanager
    async def transaction(
        self, district_id: int | None = None, *, statement_seconds: float | None = None
    ) -> AsyncIterator[Connection]:
        """Give a connection inside a transaction for writes. It commits at the end and rolls back on an error.

        Writes have a part of the connections, and one district's writes a part of that: see db/slots. None is for
        the server's own work. `statement_seconds`: the limit for one statement, if not the usual one.
        Raises what `acquire` raises.
        """
        async with self._write_slots.slot(district_id), self._connection() as conn, conn.transaction():
            if statement_seconds is None:
                yield conn
                return
            await conn.execute(f"set local statement_timeout = {_milliseconds(statement_seconds)}")
            with command_timeout(conn, statement_seconds + _GRACE_SECONDS):
                yield conn

    @asynccontextmanager
    async def autocommit(self, district_id: int | None = None) -> AsyncIterator[Connection]:
        """Give a connection for a single statement that writes, which is a transaction of its own.

        Otherwise as `transaction`.
        """
        async with self._write_slots.slot(district_id), self._connection() as conn:
            yield conn

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[AsyncIterator[str]]:
        """Give the payloads that are notified on a channel from now on, until the connection is lost.

        The connection is a separate one, outside the pool. Behind a pooler no payload ever arrives, so the caller
        must also poll. Raises Unavailable.
        """
        if not self.behind_pooler:
            async with connect(self._dsn) as conn:
                if not cast(LeanConnection, conn).behind_pooler:
                    async with listening(conn, channel) as payloads:
                        yield payloads
                    return
        yield no_payloads()

    async def close(self) -> None:
        await self._pool.close()

    async def _take(self) -> Any:
        try:
            return await self._pool.acquire(timeout=self._acquire_timeout)
        except TimeoutError as error:
            full = self._pool.get_size() == self._pool.get_max_size() and not self._pool.get_idle_size()
            raise (Busy(_ALL_IN_USE) if full else Unavailable(_UNREACHABLE)) from error
        except CONNECTION_LOST as error:
            raise Unavailable(_UNREACHABLE) from error
        except asyncpg.PostgresError as error:
            raise translated(error) or Unavailable(_UNREACHABLE) from error

    async def _release(self, conn: Any) -> None:
        try:
            if getattr(conn, "prepared_bytes", 0) > self._max_prepared_bytes:  # 0: it is closed already
                await close_quietly(conn)  # PostgreSQL keeps memory for each statement until its process ends
        finally:
            # A statement that is still being cancelled may delay this. The pool then terminates the connection; the
            # timeout must not replace the error that the block raised.
            with suppress(TimeoutError, *CONNECTION_LOST):
                await self._pool.release(conn, timeout=_GRACE_SECONDS)


async def open_pool(
    dsn: str,
    *,
    min_size: int = defaults.POOL_MIN_SIZE,
    max_size: int = defaults.POOL_MAX_SIZE,
    acquire_timeout: float = defaults.ACQUIRE_SECONDS,
    statement_timeout: float = defaults.STATEMENT_SECONDS,
    lock_timeout: float = defaults.LOCK_SECONDS,
    unnamed_statements: Unnamed = "auto",
    max_prepared_bytes: int = defaults.MAX_PREPARED_BYTES,
    application_name: str = "gql-server",
) -> Pool:
    """Connect to PostgreSQL. Times are in seconds. Raises Unavailable, ConfigurationError.

    `lock_timeout`: how long a statement waits for a lock. `unnamed_statements`: see db/connections.
    `max_prepared_bytes`: a connection is replaced when more SQL than this was prepared on it.
    """
    connector = Connector(
        {
            "statement_timeout": _milliseconds(statement_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(statement_timeout),
            "lock_timeout": _milliseconds(lock_timeout),
            **_SETTINGS,
        },
        unnamed=unnamed_statements,
        begin_timeout=acquire_timeout,
        application_name=application_name,
        log_pooler=True,
        init=decode_json_as_bytes,
    )
    with _translated_connection_errors():
        pool = await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            connect=cast(Any, connector),
            connection_class=LeanConnection,
            command_timeout=statement_timeout + _GRACE_SECONDS,
        )
    assert pool is not None
    return Pool(dsn, pool, connector, acquire_timeout=acquire_timeout, max_prepared_bytes=max_prepared_bytes)


@asynccontextmanager
async def connect(dsn: str, *, unnamed_statements: Unnamed = "auto") -> AsyncIterator[Connection]:
    """Give one connection without a pool and without timeouts, for commands.

    Raises Unavailable, ConfigurationError.
    """
    with _translated_connection_errors():
        conn = await Connector(_SETTINGS, unnamed=unnamed_statements)(dsn)
    try:
        yield cast(Connection, conn)
    finally:
        await conn.close()


@contextmanager
def _translated_connection_errors() -> Iterator[None]:
    try:
        yield
    except ValueError:  # the driver refused the URL; its message may hold the password
        raise ConfigurationError(_INVALID_URL) from None
    except TimeoutError as error:
        raise Unavailable(
            "The database cannot be reached: nothing answered at its address."
            " Check the host and port in GQL_SERVER_DATABASE_URL, and the network between."
        ) from error
    except DATABASE_ERRORS as error:
        raise Unavailable(f"The database cannot be reached: {error}") from error


def _milliseconds(seconds: float) -> str:
    return str(max(1, int(seconds * 1000)))
