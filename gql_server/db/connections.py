"""Connects to PostgreSQL, directly or through a pooler.

A pooler such as PgBouncer in transaction mode runs each transaction on whichever server connection is free. State of
the session does not survive the transaction there: prepared statements, settings, LISTEN. Two clients that give a
statement the same name would even receive each other's rows. So every new connection is tested for a pooler. Behind
one, all statements are unnamed, run inside a transaction, and every transaction sets its own settings.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal, cast
from uuid import uuid4

import asyncpg
import structlog

from gql_server.db.database_errors import CONNECTION_LOST
from gql_server.db.prepared import ConnectionReads
from gql_server.errors import Busy

Unnamed = Literal["auto", "always", "never"]
"""When statements are unnamed: behind a pooler that was detected (`auto`), always, or never."""

_log = structlog.get_logger(__name__)
_CACHED_STATEMENTS = 200
_MAX_CACHED_BYTES = 256 * 1024
"""Length of the longest statement that stays prepared. A deep read is a long text; the driver's default is 15 KiB."""
APPLICATION_NAME = "gql-server"
"""What servers and imports call themselves in pg_stat_activity. `migrate` looks for it, in older versions too."""
_CONNECT_SECONDS = 10.0
_CANCEL_SECONDS = 2.0
"""How long PostgreSQL may take to confirm that it cancelled a statement."""
_PROCESS_ID = uuid4().hex
_numbers = itertools.count(1)


class LeanConnection(asyncpg.Connection):
    """A connection that is not reset when it is released, which saves a round trip for each request.

    So no code may leave state in the session: settings are `set local`, temporary tables are `on commit drop`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.behind_pooler = False
        self.prepared_bytes = 0
        """How much SQL was prepared on this connection, without that of reads. Its memory is kept to the end."""
        self.reads: ConnectionReads | None = None
        """The prepared reads; None outside of a pool."""
        self._names = 0

    def get_reset_query(self) -> str:
        return ""

    @property
    def rests(self) -> bool:
        """Whether it is open, and has nothing left to end before somebody else uses it."""
        driver = cast(Any, self)
        return not (
            self.is_closed()
            or self.is_in_transaction()
            or driver._top_xact is not None
            or driver._protocol._is_cancelling()
        )

    async def reset(self, *, timeout: float | None = None) -> None:
        """Roll back a transaction that was left open; there is nothing else to do, and mostly nothing at all."""
        if self.is_in_transaction() or cast(Any, self)._top_xact is not None:
            await super().reset(timeout=timeout)

    def _get_unique_id(self, prefix: str) -> str:
        """Return a statement name that no other process uses: a mix-up then raises an error instead of wrong rows."""
        self._names += 1
        return f"__{prefix}_{_PROCESS_ID}_{next(_numbers):x}__"

    def _cancel_current_command(self, *waiters: Any) -> None:
        """Ask PostgreSQL to cancel a statement, and terminate the connection if it does not confirm in time."""
        cast(Any, super())._cancel_current_command(*waiters)
        asyncio.get_running_loop().call_later(_CANCEL_SECONDS, self._terminate_if_cancelling)

    def _terminate_if_cancelling(self) -> None:
        protocol = cast(Any, self)._protocol
        if not self.is_closed() and protocol._is_cancelling():
            self.terminate()

    async def fetchrow(
        self, query: str, *args: object, timeout: float | None = None, record_class: Any = None
    ) -> Any:
        """Return the first row of a statement. A prepared read is run at once, without the driver's search for it."""
        driver = cast(Any, self)
        statement = self.reads.get(query) if self._is_read(query) and self.reads is not None else None
        if statement is None or record_class is not None or driver._query_loggers:
            return await super().fetchrow(query, *args, timeout=timeout, record_class=record_class)
        driver._check_open()
        protocol = driver._protocol
        try:
            rows = await protocol.bind_execute(statement, args, "", 1, False, protocol._get_timeout(timeout))
        except asyncpg.OutdatedSchemaCacheError:
            await self.reload_schema_state()
            raise
        except asyncpg.InvalidCachedStatementError:
            driver._drop_global_statement_cache()
            if self.is_in_transaction():
                raise
            return await super().fetchrow(query, *args, timeout=timeout)
        return rows[0] if rows else None

    def _is_read(self, query: str) -> bool:
        """Tell whether this is the read for which the connection is in use, and it may be prepared."""
        return (
            self.reads is not None
            and query is self.reads.current
            and bool(cast(Any, self)._stmt_cache_enabled)
        )

    async def _get_statement(self, query: str, timeout: float | None, **options: Any) -> Any:
        if self.reads is None or not self._is_read(query):
            return await self._own_statement(query, timeout, **options)
        if (statement := self.reads.get(query)) is not None:
            return statement
        get = cast(Any, super())._get_statement
        options |= {"use_cache": False}
        closed = self.reads.make_room(query)
        self._close_later([*(closed or ()), *self.reads.plan(query)])
        if closed is None:
            return await get(query, timeout, **options)
        statement = await get(query, timeout, **options | {"named": True})
        self.reads.put(query, statement)
        return statement

    def _close_later(self, statements: Sequence[Any]) -> None:
        """Let the driver close prepared statements together with the next one that it prepares."""
        for statement in statements:
            statement.mark_closed()
        cast(Any, self)._stmts_to_close.update(statements)

    def _drop_local_statement_cache(self) -> None:
        cast(Any, super())._drop_local_statement_cache()
        if self.reads is not None:
            self._close_later(self.reads.clear())

    def _mark_stmts_as_closed(self) -> None:  # the connection is closed
        cast(Any, super())._mark_stmts_as_closed()
        if self.reads is not None:
            self.reads.clear()

    async def _own_statement(self, query: str, timeout: float | None, **options: Any) -> Any:
        """Return a statement of the product itself."""
        names_before = self._names
        prepared = await cast(Any, super())._get_statement(query, timeout, **options)
        # A statement was prepared if it got a new name, or no name because it is too long for the driver's cache.
        if self._names != names_before or not (prepared.name or self.behind_pooler):
            self.prepared_bytes += len(query)
        return prepared


class PoolerConnection(LeanConnection):
    """A connection through a pooler. A statement outside a transaction gets a transaction of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.behind_pooler = True
        self.settings: Mapping[str, str] = {}
        """The settings of each transaction."""
        self.begin_timeout: float | None = None
        """How many seconds a transaction may wait until the pooler has a server connection for it."""
        driver = cast(Any, self)
        driver._server_caps = driver._server_caps._replace(
            jit=False
        )  # else the driver sets `jit` for the session

    async def _get_statement(self, query: str, timeout: float | None, **options: Any) -> Any:
        if options.get("named") is True and not cast(Any, self)._stmt_cache_enabled:
            options["named"] = ""  # a cursor has the name of its portal, and needs no other
        return await super()._get_statement(query, timeout, **options)

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """Run a statement. BEGIN also makes the settings of the transaction."""
        if query.startswith("BEGIN"):
            return await self._begin(query)
        async with self._in_transaction():
            return str(await super().execute(query, *args, timeout=timeout))

    async def fetch(self, query: str, *args: object, **options: Any) -> Any:
        """Return the rows of a statement."""
        async with self._in_transaction():
            return await super().fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: object, **options: Any) -> Any:
        """Return the first row of a statement."""
        async with self._in_transaction():
            return await super().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: object, **options: Any) -> Any:
        """Return one column of the first row of a statement."""
        async with self._in_transaction():
            return await super().fetchval(query, *args, **options)

    async def _begin(self, query: str) -> str:
        set_local = "".join(f" set local {name} = '{value}';" for name, value in self.settings.items())
        try:
            return str(await super().execute(f"{query.rstrip(';')};{set_local}", timeout=self.begin_timeout))
        except asyncio.CancelledError:
            self.terminate()  # otherwise it would go on waiting for a server connection
            raise
        except TimeoutError as error:
            self.terminate()
            raise Busy("The database's pooler has no free connection. Try again in a moment.") from error

    @asynccontextmanager
    async def _in_transaction(self) -> AsyncIterator[None]:
        if self.is_in_transaction():
            yield
            return
        async with self.transaction():
            yield


class Connector:
    """Makes connections to one database.

    Once a pooler was detected, `behind_pooler` is True and all further connections are made for one. `settings`:
    settings of each session, or behind a pooler of each transaction. `begin_timeout`: seconds, see PoolerConnection.
    `log_pooler`: whether the detection of a pooler is logged. `init`: runs first on each new connection.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        unnamed: Unnamed = "auto",
        begin_timeout: float | None = None,
        application_name: str = APPLICATION_NAME,
        log_pooler: bool = False,
        init: Callable[[LeanConnection], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = dict(settings)
        self._unnamed = unnamed
        self._begin_timeout = begin_timeout
        self._application_name = application_name
        self._log_pooler = log_pooler
        self._init = init
        self.behind_pooler = unnamed == "always"

    async def __call__(self, dsn: str, **options: Any) -> LeanConnection:
        """Connect. Raises the driver's errors."""
        if not self.behind_pooler:
            direct: LeanConnection = await self._connect_as(LeanConnection, dsn, options)
            with _terminate_on_error(direct):
                if await self._apply_session_settings(direct):
                    return await self._initialized(direct)
                await direct.close(timeout=1)
            self._remember_pooler()
        pooler: PoolerConnection = await self._connect_as(PoolerConnection, dsn, options)
        pooler.settings, pooler.begin_timeout = self._settings, self._begin_timeout
        with _terminate_on_error(pooler):
            return await self._initialized(pooler)

    async def _initialized(self, conn: LeanConnection) -> LeanConnection:
        if self._init is not None:
            await self._init(conn)
        return conn

    async def _connect_as(
        self, connection_class: type[LeanConnection], dsn: str, options: Mapping[str, Any]
    ) -> Any:
        unnamed = connection_class is PoolerConnection and self._unnamed != "never"
        connect_options = {
            "timeout": _CONNECT_SECONDS,
            **options,
            "connection_class": connection_class,
            "statement_cache_size": 0 if unnamed else _CACHED_STATEMENTS,
            "max_cacheable_statement_size": _MAX_CACHED_BYTES,
            # No other settings here: a pooler refuses startup parameters that it does not know.
            "server_settings": {"application_name": self._application_name},
        }
        return await asyncpg.connect(dsn, **connect_options)

    async def _apply_session_settings(self, conn: LeanConnection) -> bool:
        """Make the settings of the session and return True; return False if the connection leads to a pooler.

        A pooler announces a process id at the start that is not the one of the PostgreSQL process behind it.
        """
        async with conn.transaction():
            backend_pid = await conn.prepare("select pg_backend_pid()", name="")
            if await backend_pid.fetchval() != conn.get_server_pid():
                return False
            await conn.execute(";".join(f"set {name} = '{value}'" for name, value in self._settings.items()))
        return True

    def _remember_pooler(self) -> None:
        if not self.behind_pooler and self._log_pooler:
            names = "named" if self._unnamed == "never" else "unnamed"
            _log.warning(
                "database_pooler_detected", statements=names, notifications="not received: the server polls"
            )
        self.behind_pooler = True


@contextmanager
def _terminate_on_error(conn: LeanConnection) -> Iterator[None]:
    """Terminate a connection that could not be made ready. A graceful close could wait for the pooler for ever."""
    try:
        yield
    except BaseException:
        conn.terminate()
        raise


async def decode_json_as_bytes(conn: LeanConnection) -> None:
    """Return JSON values as the bytes that PostgreSQL sent, because they go to the client unchanged."""
    async with conn.transaction():  # behind a pooler both statements must reach the same server connection
        await conn.set_type_codec("json", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")


@contextmanager
def command_timeout(conn: Any, seconds: float) -> Iterator[None]:
    """Set the driver's time limit for each statement of the block."""
    driver = getattr(conn, "_con", conn)  # the pool gives a proxy
    config = driver._config
    driver._config = config._replace(command_timeout=seconds)
    try:
        yield
    finally:
        driver._config = config


async def close_quietly(conn: Any) -> None:
    """Close a connection that is not in use, whether or not the server answers."""
    with suppress(*CONNECTION_LOST, asyncpg.PostgresError):
        await conn.close(timeout=1)


def terminate(conn: Any) -> None:
    """Close a connection at once, even during a statement, so that the pool never hands it out again."""
    with suppress(asyncpg.InterfaceError):  # it is closed already
        conn.terminate()
