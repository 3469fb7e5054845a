"""Runs SQL of plug-ins inside the server's statements: it only reads, in limited time; errors name the plug-in."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress

from gql_server.db.database_errors import sqlstate
from gql_server.db.plugin_errors import Fragment, SeveralSuspects, attribute_errors, plugin_error, too_long
from gql_server.db.protocols import Connection
from gql_server.db.statements import execute, fetch, fetchval
from gql_server.errors import PluginError
from gql_server.hooks import Population
from gql_server.hooks.host import OwnedRule, PluginHost
from gql_server.services.rules.rule_set import NumberedRules


def fragment_of(owned: OwnedRule) -> Fragment:
    """Return the SQL of a rule, as its author wrote it."""
    rule = owned.rule
    written = rule.predicate or rule.deny_select or rule.deny_channel_when
    return Fragment(owned.plugin, f"rule {rule.name!r}", written)


def fragments_of(rules: NumberedRules) -> list[Fragment]:
    """Return the SQL of each rule."""
    return [fragment_of(owned) for owned in rules.values()]


def selection_of(host: PluginHost, mode: str, population: Population) -> Fragment:
    """Return the SQL with which a mode selects people."""
    return Fragment(host.modes[mode].plugin, f"the selection of the mode {mode!r}", population.sql)


def is_built_in(rules: NumberedRules) -> bool:
    """Tell whether all rules are the product's own."""
    return all(owned.built_in for owned in rules.values())


def is_built_in_selection(host: PluginHost, mode: str) -> bool:
    """Tell whether the SQL with which a mode selects people is the product's own, filter fields included."""
    return host.are_built_in([host.modes[mode].plugin, *host.plugins_with("filter_fields")])


async def ask_together(rules: NumberedRules, ask: Callable[[NumberedRules], Awaitable[None]]) -> None:
    """Ask rules in one statement; each alone where it fails or is too slow and nobody can tell whose fault that is.

    Alone they are asked in their order, up to the first at fault, whose PluginError is raised. Where none is at fault
    alone, what each answered counts. So N rules take at most N + 1 times the limit for one statement.
    ask: asks rules in one statement and keeps what they answer, or raises and keeps nothing.
    """
    try:
        await ask(rules)
    except SeveralSuspects:
        for number, owned in rules.items():
            await ask({number: owned})


@asynccontextmanager
async def plugin_sql(
    conn: Connection, *fragments: Fragment, seconds: float | None = None, built_in: bool = False
) -> AsyncIterator[None]:
    """Run a statement that contains SQL of plug-ins in the block, inside a transaction that is open.

    What follows in the transaction, and whoever has the connection next, finds its settings and locks as they were.
    fragments: those that may be at fault. seconds: how long the statement may take; None for what the connection
    allows. built_in: whether all of it is the product's own SQL, which is not watched: then an error ends the
    transaction, without a savepoint, which would slow down whoever reads the rows that are written in it. Raises
    PluginError: see `attribute_errors`; also where the SQL sets something for its session.
    """
    if not fragments:
        yield
        return
    deadline = asyncio.timeout(seconds)
    try:
        with attribute_errors(*fragments):
            unlocked = nullcontext() if built_in else _unlocked(conn)
            only_reading = nullcontext() if built_in else _only_reading(conn, fragments)
            async with unlocked, deadline, only_reading:
                yield
    except TimeoutError as timeout:
        if seconds is not None and deadline.expired():
            raise plugin_error(fragments, too_long(seconds)) from timeout
        raise


@asynccontextmanager
async def _only_reading(conn: Connection, fragments: tuple[Fragment, ...]) -> AsyncIterator[None]:
    """Let the block only read, inside a savepoint, and leave its session's settings. Raises PluginError."""
    async with conn.transaction():
        before = await fetchval(conn, "rules/session")
        await fetch(conn, "rules/read_only")
        yield
        if await fetchval(conn, "rules/session") != before:
            raise plugin_error(fragments, "sets something for its session in the database: it may only read.")


@asynccontextmanager
async def _unlocked(conn: Connection) -> AsyncIterator[None]:
    """Release the session's advisory locks after the block, whose savepoint keeps the transaction usable."""
    try:
        yield
    except Exception as error:
        if sqlstate(error) or isinstance(error, PluginError | TimeoutError):
            with suppress(Exception):  # such as a connection that was lost
                await execute(conn, "rules/unlock")
        raise
    await execute(conn, "rules/unlock")
