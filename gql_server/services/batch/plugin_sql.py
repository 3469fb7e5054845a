"""Runs SQL of plug-ins inside the server's statements: it only reads, has its time, and is blamed for its errors."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from gql_server.db.database_errors import is_transient, sqlstate
from gql_server.db.protocols import Connection
from gql_server.db.statements import execute, fetch, fetchval
from gql_server.domain.sql import Sql, place_in
from gql_server.errors import PluginError
from gql_server.hooks import Population
from gql_server.hooks.host import OwnedRule, PluginHost

_CANCELED = "57014"


@dataclass(frozen=True, slots=True)
class Fragment:
    """SQL of a plug-in. what: such as "rule 'quiet'", or a rule's name alone where others may be at fault too."""

    plugin: str
    what: str
    sql: Sql | None

    @classmethod
    def of(cls, owned: OwnedRule) -> "Fragment":
        """Return the SQL of a rule, as its author wrote it."""
        rule = owned.rule
        written = rule.predicate or rule.deny_select or rule.deny_channel_when
        return cls(owned.plugin, f"rule {rule.name!r}", written)


def selection_of(host: PluginHost, mode: str, population: Population) -> Fragment:
    """Return the SQL with which a mode selects people."""
    return Fragment(host.modes[mode].plugin, f"the selection of the mode {mode!r}", population.sql)


@asynccontextmanager
async def plugin_sql(
    conn: Connection, *fragments: Fragment, seconds: float | None = None
) -> AsyncIterator[None]:
    """Run a statement made of plug-ins' SQL in the block, inside a transaction that is open.

    What follows in the transaction, and whoever has the connection next, finds its settings and locks as they were.
    `seconds`: how long it may take; None for what the connection allows. Raises PluginError: see `blamed`; also
    where the SQL sets something for its session.
    """
    if not fragments:
        yield
        return
    deadline = asyncio.timeout(seconds)
    try:
        with blamed(*fragments):
            async with deadline, _unlocked(conn), conn.transaction():
                before = await fetchval(conn, "batch/session")
                await fetch(conn, "batch/read_only")
                yield
                if await fetchval(conn, "batch/session") != before:
                    raise _fault(
                        fragments, "sets something for its session in the database: it may only read."
                    )
    except TimeoutError as timeout:
        if deadline.expired():
            raise _fault(fragments, f"took longer than {seconds:g} s in the database.") from timeout
        raise


@asynccontextmanager
async def _unlocked(conn: Connection) -> AsyncIterator[None]:
    """Let go of the session's locks after the block, whose savepoint keeps the transaction usable."""
    try:
        yield
    except Exception as error:
        if sqlstate(error) or isinstance(error, PluginError):
            with suppress(Exception):  # such as a connection that was lost
                await execute(conn, "batch/unlock")
        raise
    await execute(conn, "batch/unlock")


@contextmanager
def blamed(*fragments: Fragment) -> Iterator[None]:
    """Turn an error that lies in SQL made of these into a PluginError.

    It tells the place in the plug-in's own SQL, where PostgreSQL tells one. Its words hold no SQL and no data;
    PostgreSQL's own are those of its cause. What may pass, such as a lost connection, is raised as it is.
    """
    try:
        yield
    except Exception as error:
        state = sqlstate(error)
        if fragments and state and (state == _CANCELED or not is_transient(error)):
            raise _located(fragments, error, state) from error
        raise


def _located(fragments: tuple[Fragment, ...], error: Exception, state: str) -> PluginError:
    position, query = getattr(error, "position", None), getattr(error, "query", None)
    if position and query:
        for fragment in fragments:
            found = fragment.sql and place_in(fragment.sql.text, query, int(position))
            if found:
                line, column = found
                words = f"failed in the database ({state}, line {line}, column {column} of its SQL)."
                return _fault((fragment,), words)
    return _fault(fragments, f"failed in the database ({state}).")


def _fault(fragments: tuple[Fragment, ...], words: str) -> PluginError:
    plugins = ", ".join(dict.fromkeys(fragment.plugin for fragment in fragments))
    first, *others = (fragment.what for fragment in fragments)
    return PluginError(
        plugins, " or ".join([first, *(other.removeprefix("rule ") for other in others)]) + f" {words}"
    )
