"""The connection pool."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import asyncpg
import structlog

from gql_server.db.connections import (
    APPLICATION_NAME,
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
from gql_server.db.prepared import ConnectionReads, PreparedReads
from gql_server.db.protocols import Connection
from gql_server.db.slots import FairSlots, read_slots, write_slots
from gql_server.domain import defaults
from gql_server.errors import AnswerMismatch, Busy, ConfigurationError, Unavailable

_log = structlog.get_logger(__name__)
_UNREACHABLE = "The database cannot be reached now. Try again."
_SETTINGS = {"jit": "off"}  # compiling a short statement costs more than it saves
_GRACE_SECONDS = 5.0
"""How much longer than `statement_timeout` the driver waits, before it takes PostgreSQL for unreachable."""
_WAIT_SECONDS = 0.005
"""How long a read waits for a connection that has it prepared."""
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
        reads: PreparedReads,
    ) -> None:
        self._dsn = dsn
        self._pool = pool
        self._connector = connector
        self._acquire_timeout = acquire_timeout
        self._max_prepared_bytes = max_prepared_bytes
        self._reads = reads
        self._read_slots = read_slots(pool.get_max_size(), acquire_timeout)
        self._write_slots = write_slots(pool.get_max_size(), acquire_timeout)

    @property
    def behind_pooler(self) -> bool:
        """Whether connections go through a pooler in transaction mode."""
        return self._connector.behind_pooler

    def acquire(
        self, district_id: int | None = None, *, read: str | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """Give a connection for reads during the block.

        `read`: the statement of a client's document that is about to run, which counts against the budget of
        db/prepared. A connection that has it prepared is preferred.

        The reads of one district share a part of the connections: see db/slots. None is for the server's own work.
        Raises Unavailable if the database cannot be reached, and Busy if all connections, or all of the district's
        part, are in use for too long. An error of the database inside the block is raised as `translated` returns it
        (db/database_errors), with the original as its cause.
        """
        return _Lease(self, self._read_slots if district_id is not None else None, district_id, read)

    def _connection(self) -> AbstractAsyncContextManager[Connection]:
        return _Lease(self, None, None)

    def _raise_translated(self, conn: Any, error: BaseException) -> None:
        """Raise what an error of a block that used a connection means, unless it stands for itself."""
        if isinstance(error, AnswerMismatch):
            _log.critical(
                "answer_mismatched", district=error.district, role=error.role, pooler=self.behind_pooler
            )
            terminate(conn)
        elif isinstance(error, DATABASE_ERRORS):
            if is_session_mismatch(error):
                _log.critical(
                    "database_session_mismatched", error=type(error).__name__, pooler=self.behind_pooler
                )
                terminate(conn)
            task = asyncio.current_task()
            if isinstance(error, CONNECTION_LOST) and task is not None and task.cancelling():
                # The clean-up of a cancelled task failed. That must not hide the cancellation.
                raise asyncio.CancelledError from error
            if translation := translated(error):
                raise translation from error

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

    def autocommit(self, district_id: int | None = None) -> AbstractAsyncContextManager[Connection]:
        """Give a connection for a single statement that writes, which is a transaction of its own.

        Otherwise as `transaction`.
        """
        return _Lease(self, self._write_slots, district_id)

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

    async def _take(self, read: str | None) -> Any:
        try:
            conn: Any = await self._take_idle(read) if read is not None else None
            if conn is None:
                conn = await self._pool.acquire(timeout=self._acquire_timeout)
            if read is not None and (reads := conn._con.reads) is not None:
                reads.current = read
            return conn
        except TimeoutError as error:
            full = self._pool.get_size() == self._pool.get_max_size() and not self._pool.get_idle_size()
            raise (Busy(_ALL_IN_USE) if full else Unavailable(_UNREACHABLE)) from error
        except CONNECTION_LOST as error:
            raise Unavailable(_UNREACHABLE) from error
        except asyncpg.PostgresError as error:
            raise translated(error) or Unavailable(_UNREACHABLE) from error

    async def _take_idle(self, read: str) -> Any | None:
        """Return an unused connection on which a read is prepared or shall be; None if it may be any."""
        self._reads.count_use(read)
        holder = self._holder_having(read)
        if holder is None and self._reads.is_worth_preparing(read):
            holder = self._holder_with_room(read)
        elif holder is None:
            # Another connection would have to plan the read anew, which takes longer than most reads.
            busy = next((each for each in self._reads.connections(read) if each.waiter is None), None)
            if busy is not None:
                await busy.wait_until_free(_WAIT_SECONDS)
                holder = self._holder_having(read)
        if holder is None:
            return None
        self._idle_holders.remove(holder)
        try:
            return await holder.acquire()
        except BaseException:
            cast(Any, self._pool)._queue.put_nowait(holder)
            raise

    @property
    def _idle_holders(self) -> list[Any]:
        """What the driver's pool holds connections in that are not in use. The last one was used last."""
        return cast(Any, self._pool)._queue._queue  # type: ignore[no-any-return]

    def _holder_having(self, read: str) -> Any | None:
        having = self._reads.connections(read)
        if not having:
            return None
        for holder in self._idle_holders:
            conn = holder._con
            if conn is not None and conn.reads in having and not conn.is_closed():
                return holder
        return None

    def _holder_with_room(self, read: str) -> Any | None:
        """Return the holder with the most room for a read: a connection, or if none has any, one to be connected."""
        connected = [holder for holder in reversed(self._idle_holders) if holder.is_connected()]
        with_room = [holder for holder in connected if holder._con.reads.has_room(read)]
        if with_room:
            return min(with_room, key=lambda holder: holder._con.reads.bytes)
        return next((holder for holder in self._idle_holders if not holder.is_connected()), None)

    async def _release(self, conn: Any) -> None:
        driver: LeanConnection | None = conn._con  # None: it is closed already
        reads = driver.reads if driver is not None else None
        try:
            if driver is not None and driver.prepared_bytes > self._max_prepared_bytes:
                await close_quietly(conn)  # PostgreSQL keeps memory for each statement until its process ends
        finally:
            # A statement that is still being cancelled may delay this. The pool then terminates the connection; the
            # timeout must not replace the error that the block raised.
            with suppress(TimeoutError, *CONNECTION_LOST):
                if driver is not None and driver.rests:
                    # The pool's own `release` makes a task, which only protects what has to wait.
                    cast(Any, driver)._on_release()
                    await conn._holder.release(_GRACE_SECONDS)
                else:
                    await self._pool.release(conn, timeout=_GRACE_SECONDS)
            if reads is not None:
                reads.release()


class _Lease(AbstractAsyncContextManager[Connection]):
    """A connection of the pool during a block, and a slot for it if slots are given.

    Every request uses one, so it is a class: generators cost twice as much.
    """

    __slots__ = ("_conn", "_district_id", "_pool", "_read", "_slots")

    def __init__(
        self, pool: Pool, slots: FairSlots | None, district_id: int | None, read: str | None = None
    ) -> None:
        self._pool, self._slots, self._district_id, self._read = pool, slots, district_id, read

    async def __aenter__(self) -> Connection:
        if self._slots is not None and not self._slots.take_at_once(self._district_id):
            await self._slots.take(self._district_id)
        try:
            self._conn = await self._pool._take(self._read)
        except BaseException:
            self._end()
            raise
        return cast(Connection, self._conn)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: object
    ) -> None:
        try:
            if error is not None:
                self._pool._raise_translated(self._conn, error)
        finally:
            try:
                await self._pool._release(self._conn)
            finally:
                self._end()

    def _end(self) -> None:
        if self._slots is not None:
            self._slots.release(self._district_id)


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
    max_read_memory: int = defaults.MAX_READ_MEMORY,
    application_name: str = APPLICATION_NAME,
) -> Pool:
    """Connect to PostgreSQL. Times are in seconds. Raises Unavailable, ConfigurationError.

    `lock_timeout`: how long a statement waits for a lock. `unnamed_statements`: see db/connections.
    `max_prepared_bytes`: a connection is replaced when more SQL than this was prepared on it, reads not counted.
    `max_read_memory`: bytes of PostgreSQL's memory for prepared reads, on all connections together. See db/prepared.
    """
    reads = PreparedReads(max_read_memory // max_size)

    async def init(conn: LeanConnection) -> None:
        conn.reads = ConnectionReads(reads)
        await decode_json_as_bytes(conn)

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
        init=init,
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
    return Pool(
        dsn,
        pool,
        connector,
        acquire_timeout=acquire_timeout,
        max_prepared_bytes=max_prepared_bytes,
        reads=reads,
    )


@asynccontextmanager
async def connect(
    dsn: str, *, unnamed_statements: Unnamed = "auto", application_name: str = APPLICATION_NAME
) -> AsyncIterator[Connection]:
    """Give one connection without a pool and without timeouts, for commands and notifications.

    Raises Unavailable, ConfigurationError.
    """
    with _translated_connection_errors():
        connector = Connector(_SETTINGS, unnamed=unnamed_statements, application_name=application_name)
        conn = await connector(dsn)
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
