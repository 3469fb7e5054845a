"""How a connection is made, and what it keeps to: directly, or through a pooler that hands it on.

A pooler such as PgBouncer in transaction mode gives each transaction whichever connection is free. What a session
keeps does not outlast a transaction there: prepared statements, settings, LISTEN. Statements of two clients that have
one name are mixed up, and a client is answered with another's rows. So each new connection is asked whether there is
a pooler, and behind one every statement is unnamed, inside a transaction, and under the settings of that transaction.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal, cast
from uuid import uuid4

import asyncpg
import structlog

from gql_server.db.database_errors import LOST
from gql_server.errors import Busy

Unnamed = Literal["auto", "always", "never"]
"""When statements have no name: behind a pooler that is found (`auto`), or as told."""

_log = structlog.get_logger(__name__)
_CACHED_STATEMENTS = 200
_LONGEST_CACHED = 256 * 1024
"""Bytes of the longest statement that is kept prepared. A deep read is a long text; the driver's default is 15 KiB."""
_CONNECT_SECONDS = 10.0
_CANCEL_SECONDS = 2.0
"""How long PostgreSQL may take to answer that it has stopped a statement."""
_PROCESS = uuid4().hex
_numbers = itertools.count(1)


class LeanConnection(asyncpg.Connection):
    """A connection that is not reset at release, which saves a round trip a request.

    Therefore nothing may leave session state behind: settings are `set local`, temporary tables `on commit drop`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pooled = False
        self.prepared_bytes = 0
        """How much SQL PostgreSQL has prepared on it, which costs memory until the connection ends."""
        self._names = 0

    def get_reset_query(self) -> str:
        return ""

    def _get_unique_id(self, prefix: str) -> str:
        """Return a name that no other process gives: what is asked for by mistake is missing, not another's."""
        self._names += 1
        return f"__{prefix}_{_PROCESS}_{next(_numbers):x}__"

    def _cancel_current_command(self, *waiters: Any) -> None:
        """Ask PostgreSQL to stop a statement; where it does not say that it has, nobody waits for it longer."""
        cast(Any, super())._cancel_current_command(*waiters)
        asyncio.get_running_loop().call_later(_CANCEL_SECONDS, self._end_if_cancelling)

    def _end_if_cancelling(self) -> None:
        protocol = cast(Any, self)._protocol
        if not self.is_closed() and protocol._is_cancelling():
            self.terminate()

    async def _get_statement(self, query: str, timeout: float | None, **options: Any) -> Any:
        names = self._names
        found = await cast(Any, super())._get_statement(query, timeout, **options)
        if self._names != names or not (found.name or self.pooled):  # too long to be kept, or new
            self.prepared_bytes += len(query)
        return found


class PooledConnection(LeanConnection):
    """A connection through a pooler: whatever runs outside a transaction is given one of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pooled = True
        self.settings: Mapping[str, str] = {}
        """What holds in each transaction."""
        self.begin_timeout: float | None = None
        """For how many seconds the pooler may let a transaction wait for its connection."""
        driver = cast(Any, self)
        driver._server_caps = driver._server_caps._replace(jit=False)  # else it sets `jit` for the session

    async def _get_statement(self, query: str, timeout: float | None, **options: Any) -> Any:
        if options.get("named") is True and not cast(Any, self)._stmt_cache_enabled:
            options["named"] = ""  # a cursor has a portal's name, and needs no other
        return await super()._get_statement(query, timeout, **options)

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """Run a statement. A transaction begins with the settings that hold in it."""
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
        local = "".join(f" set local {name} = '{value}';" for name, value in self.settings.items())
        try:
            return str(await super().execute(f"{query.rstrip(';')};{local}", timeout=self.begin_timeout))
        except asyncio.CancelledError:
            self.terminate()  # it would go on waiting for one
            raise
        except TimeoutError as error:
            self.terminate()
            raise Busy("The database's pooler has no connection free. Try again in a moment.") from error

    @asynccontextmanager
    async def _in_transaction(self) -> AsyncIterator[None]:
        if self.is_in_transaction():
            yield
            return
        async with self.transaction():
            yield


class Dialer:
    """Makes connections to one database. `pooled`: whether a pooler was met, from when on all are made for one.

    `settings`: what holds in each session, or where there is none to keep it in each transaction. `begin_timeout`:
    see PooledConnection, in seconds. `logs`: whether a pooler that is found is logged. `init`: what is
    done first on each connection.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        unnamed: Unnamed = "auto",
        begin_timeout: float | None = None,
        application_name: str = "gql-server",
        logs: bool = False,
        init: Callable[[LeanConnection], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = dict(settings)
        self._unnamed = unnamed
        self._begin_timeout = begin_timeout
        self._application_name = application_name
        self._logs = logs
        self._init = init
        self.pooled = unnamed == "always"

    async def __call__(self, dsn: str, **options: Any) -> LeanConnection:
        """Connect. Raises the driver's errors."""
        if not self.pooled:
            direct: LeanConnection = await self._dial(dsn, LeanConnection, options)
            with _cut_on_error(direct):
                if await self._settled(direct):
                    return await self._begun(direct)
                await direct.close(timeout=1)
            self._found_pooler()
        pooled: PooledConnection = await self._dial(dsn, PooledConnection, options)
        pooled.settings, pooled.begin_timeout = self._settings, self._begin_timeout
        with _cut_on_error(pooled):
            return await self._begun(pooled)

    async def _begun(self, conn: LeanConnection) -> LeanConnection:
        if self._init is not None:
            await self._init(conn)
        return conn

    async def _dial(self, dsn: str, kind: type[Any], options: Mapping[str, Any]) -> Any:
        # A pooler refuses startup parameters that it does not know: settings are made afterwards.
        unnamed = kind is PooledConnection and self._unnamed != "never"
        given = {
            "timeout": _CONNECT_SECONDS,
            **options,
            "connection_class": kind,
            "statement_cache_size": 0 if unnamed else _CACHED_STATEMENTS,
            "max_cacheable_statement_size": _LONGEST_CACHED,
            "server_settings": {"application_name": self._application_name},
        }
        return await asyncpg.connect(dsn, **given)

    async def _settled(self, conn: LeanConnection) -> bool:
        """Make the session's settings, unless there is a pooler: then return False.

        The number of its process that a pooler gave at the start is not that of any PostgreSQL.
        """
        async with conn.transaction():
            question = await conn.prepare("select pg_backend_pid()", name="")
            if await question.fetchval() != conn.get_server_pid():
                return False
            await conn.execute(";".join(f"set {name} = '{value}'" for name, value in self._settings.items()))
        return True

    def _found_pooler(self) -> None:
        if not self.pooled and self._logs:
            names = "named" if self._unnamed == "never" else "unnamed"
            _log.warning("database_behind_a_pooler", statements=names, notifications="not heard: polls")
        self.pooled = True


@contextmanager
def _cut_on_error(conn: LeanConnection) -> Iterator[None]:
    """Leave no connection half made; nor wait to end it, for what a pooler may never give."""
    try:
        yield
    except BaseException:
        conn.terminate()
        raise


async def decode_json_as_bytes(conn: LeanConnection) -> None:
    """Let answers that are JSON stay the bytes that PostgreSQL sent: as such they go to the client."""
    async with conn.transaction():  # through a pooler what is asked here must meet one PostgreSQL
        await conn.set_type_codec("json", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")


@contextmanager
def patient(conn: Any, seconds: float) -> Iterator[None]:
    """Let each statement take so long, by the driver's clock, for the length of the block."""
    own = getattr(conn, "_con", conn)  # the pool gives a proxy
    usual = own._config
    own._config = usual._replace(command_timeout=seconds)
    try:
        yield
    finally:
        own._config = usual


async def end(conn: Any) -> None:
    """End a connection that nobody uses; it need not say goodbye."""
    with suppress(*LOST, asyncpg.PostgresError):
        await conn.close(timeout=1)


def cut(conn: Any) -> None:
    """End a connection at once, wherever it is in its work: it is never given to anybody again."""
    with suppress(asyncpg.InterfaceError):  # it is gone by now
        conn.terminate()
