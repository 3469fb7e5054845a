"""The connection pool."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import asyncpg
import structlog

from gql_server.db.connections import (
    Dialer,
    LeanConnection,
    Unnamed,
    cut,
    decode_json_as_bytes,
    end,
    patient,
)
from gql_server.db.database_errors import FAULTS, LOST, ends_session, translated
from gql_server.db.listen import listening, silence
from gql_server.db.protocols import Connection
from gql_server.db.shares import read_shares, write_shares
from gql_server.errors import AnswerMismatch, Busy, ConfigurationError, Unavailable

_log = structlog.get_logger(__name__)
_UNREACHABLE = "The database cannot be reached now. Try again."
_ALWAYS = {"jit": "off"}  # compiling a short statement costs more than it saves
_ANSWER_SECONDS = 5.0
"""How much later than PostgreSQL would stop a statement it is given up: by then nobody answers there."""
_ALL_IN_USE = "Every connection to the database is in use. Try again in a moment."
_UNUSABLE = (
    "GQL_SERVER_DATABASE_URL cannot be used. Look at its host, port and the options after the question mark."
)


class Pool:
    """A `Database` on an asyncpg pool. See `open_pool`."""

    def __init__(
        self,
        dsn: str,
        pool: "asyncpg.Pool[Any]",
        dialer: Dialer,
        *,
        acquire_timeout: float,
        max_prepared_bytes: int,
    ) -> None:
        self._dsn = dsn
        self._pool = pool
        self._dialer = dialer
        self._acquire_timeout = acquire_timeout
        self._max_prepared_bytes = max_prepared_bytes
        self._reads = read_shares(pool.get_max_size(), acquire_timeout)
        self._writes = write_shares(pool.get_max_size(), acquire_timeout)

    @property
    def pooled(self) -> bool:
        """Whether connections go through a pooler that hands them on after each transaction."""
        return self._dialer.pooled

    @asynccontextmanager
    async def acquire(self, district_id: int | None = None) -> AsyncIterator[Connection]:
        """Give a connection for the length of the block, for reads.

        Those of one district have a share of the connections: see db/shares. None is for the server's own work.
        Raises Unavailable where none can be had, Busy where all, or all of the share, are in use for too long; and
        what errors of the database inside the block are translated to, with themselves as the cause: see
        `db/database_errors.py`.
        """
        if district_id is None:
            async with self._connection() as conn:
                yield conn
        else:
            async with self._reads.place(district_id), self._connection() as conn:
                yield conn

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        conn = await self._take()
        try:
            yield cast(Connection, conn)
        except AnswerMismatch as error:
            _log.critical("answer_mismatch", district=error.district, role=error.role, pooler=self.pooled)
            cut(conn)
            raise
        except FAULTS as error:
            if ends_session(error):
                _log.critical("statement_of_another_session", error=type(error).__name__, pooler=self.pooled)
                cut(conn)
            task = asyncio.current_task()
            if isinstance(error, LOST) and task is not None and task.cancelling():
                # What fails in the clean-up of a cancelled task must not hide that.
                raise asyncio.CancelledError from error
            told = translated(error)
            if told is None:
                raise
            raise told from error
        finally:
            await self._give_back(conn)

    @asynccontextmanager
    async def transaction(
        self, district_id: int | None = None, *, statement_seconds: float | None = None
    ) -> AsyncIterator[Connection]:
        """Give a connection inside a transaction, for writes; committed at the end, rolled back on an error.

        Writes have a share of the connections, and those of one district a part of that: see db/shares. None is for
        the server's own work. `statement_seconds`: how long one statement may take, where that is not what all may.
        Raises what `acquire` raises, and Busy where no place is free for too long.
        """
        async with self._writes.place(district_id), self._connection() as conn, conn.transaction():
            if statement_seconds is None:
                yield conn
                return
            await conn.execute(f"set local statement_timeout = {_milliseconds(statement_seconds)}")
            with patient(conn, statement_seconds + _ANSWER_SECONDS):
                yield conn

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[AsyncIterator[str]]:
        """Give the payloads that are notified on a channel from now on, until the connection is lost.

        It is one of its own, outside the pool. Through a pooler nothing is heard, and nothing is ever given: whoever
        listens must look from time to time anyway. Raises Unavailable.
        """
        if not self.pooled:
            async with connect(self._dsn) as conn:
                if not cast(LeanConnection, conn).pooled:
                    async with listening(conn, channel) as payloads:
                        yield payloads
                    return
        yield silence()

    async def close(self) -> None:
        await self._pool.close()

    async def _take(self) -> Any:
        try:
            return await self._pool.acquire(timeout=self._acquire_timeout)
        except TimeoutError as error:
            full = self._pool.get_size() == self._pool.get_max_size() and not self._pool.get_idle_size()
            raise (Busy(_ALL_IN_USE) if full else Unavailable(_UNREACHABLE)) from error
        except LOST as error:
            raise Unavailable(_UNREACHABLE) from error
        except asyncpg.PostgresError as error:
            raise translated(error) or Unavailable(_UNREACHABLE) from error

    async def _give_back(self, conn: Any) -> None:
        try:
            if getattr(conn, "prepared_bytes", 0) > self._max_prepared_bytes:  # 0: it is gone by now
                await end(conn)  # PostgreSQL keeps memory for each statement until its process ends
        finally:
            # A statement that is being stopped may keep it: then it is ended, and that hides no other error.
            with suppress(TimeoutError, *LOST):
                await self._pool.release(conn, timeout=_ANSWER_SECONDS)


async def open_pool(
    dsn: str,
    *,
    min_size: int = 2,
    max_size: int = 10,
    acquire_timeout: float = 10,
    statement_timeout: float = 60,
    lock_timeout: float = 5,
    unnamed_statements: Unnamed = "auto",
    max_prepared_bytes: int = 1_000_000,
    application_name: str = "gql-server",
) -> Pool:
    """Connect to PostgreSQL. Times are in seconds. Raises Unavailable where the server does not answer.

    `lock_timeout`: how long a statement waits for a lock. `unnamed_statements`: see db/connections.
    `max_prepared_bytes`: after how much SQL prepared on it a connection is replaced.
    """
    dialer = Dialer(
        {
            "statement_timeout": _milliseconds(statement_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(statement_timeout),
            "lock_timeout": _milliseconds(lock_timeout),
            **_ALWAYS,
        },
        unnamed=unnamed_statements,
        begin_timeout=acquire_timeout,
        application_name=application_name,
        logs=True,
        init=decode_json_as_bytes,
    )
    with _reaching():
        pool = await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            connect=cast(Any, dialer),
            connection_class=LeanConnection,
            command_timeout=statement_timeout + _ANSWER_SECONDS,
        )
    assert pool is not None
    return Pool(dsn, pool, dialer, acquire_timeout=acquire_timeout, max_prepared_bytes=max_prepared_bytes)


@asynccontextmanager
async def connect(dsn: str, *, unnamed_statements: Unnamed = "auto") -> AsyncIterator[Connection]:
    """Give one connection without a pool and without timeouts, for commands.

    Raises Unavailable, ConfigurationError.
    """
    with _reaching():
        conn = await Dialer(_ALWAYS, unnamed=unnamed_statements)(dsn)
    try:
        yield cast(Connection, conn)
    finally:
        await conn.close()


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except ValueError:  # of the driver, about the address; its words may hold parts of it
        raise ConfigurationError(_UNUSABLE) from None
    except TimeoutError as error:
        raise Unavailable(
            "The database cannot be reached: what listens at its address does not answer, or nothing does."
            " Look at the host and port in GQL_SERVER_DATABASE_URL, and at what lies between."
        ) from error
    except FAULTS as error:
        raise Unavailable(f"The database cannot be reached: {error}") from error


def _milliseconds(seconds: float) -> str:
    return str(max(1, int(seconds * 1000)))
