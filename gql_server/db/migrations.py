"""Database migrations: numbered SQL files, applied in order in one transaction under an advisory lock.

The checksum of each applied file is recorded. The runner is our own because the maintained libraries need a second
driver.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from gql_server.db.connections import APPLICATION_NAME
from gql_server.db.database_errors import is_lock_timeout
from gql_server.db.protocols import Connection
from gql_server.db.statements import resource_folder
from gql_server.domain import defaults
from gql_server.errors import Busy, ConfigurationError, NewerSchema, Unavailable

T = TypeVar("T")

_LOCK = 0x67716C73  # "gqls": any fixed number that no other program is likely to lock
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def migrations() -> Sequence[Migration]:
    """Return all migrations in order."""
    files = sorted((resource_folder("sql") / "migrations").glob("*.sql"))
    return tuple(Migration(file.stem, file.read_text(encoding="utf-8")) for file in files)


async def pending(conn: Connection) -> Sequence[Migration]:
    """Return the migrations that the database lacks.

    Raises ConfigurationError if the file of an applied migration has changed, and NewerSchema if the database has
    migrations that this version does not know.
    """
    if await conn.fetchval("select to_regclass('migration')") is None:
        return migrations()
    applied = {
        row["name"]: row["checksum"] for row in await conn.fetch("select name, checksum from migration")
    }
    known = {migration.name for migration in migrations()}
    if newer := sorted(applied.keys() - known):
        raise NewerSchema(
            "The database was migrated by a newer version of gql-server:"
            f" {', '.join(newer)} is not known to this version. Install that version or a later one."
        )
    for migration in migrations():
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise ConfigurationError(
                f"Migration {migration.name} was changed after it was applied to this database. "
                "Restore the file and put the change into a new migration."
            )
    return [migration for migration in migrations() if migration.name not in applied]


async def require_writable(conn: Connection) -> None:
    """Raise Unavailable if the database is read-only, such as a standby."""
    if await conn.fetchval("select current_setting('transaction_read_only')") == "on":
        raise Unavailable(
            "The database is read-only: it is a standby, or was made read-only."
            " Name the primary server in GQL_SERVER_DATABASE_URL."
        )


async def require_no_servers(conn: Connection) -> None:
    """Raise ConfigurationError if migrations are pending and servers or imports are connected to the database.

    `conn` itself must have another application name. Sessions that were idle for a minute do not count: every server is
    heard more often, and a pooler keeps the sessions of servers that have ended.
    """
    if not await pending(conn):
        return
    row = await conn.fetchrow(
        "select count(*) as sessions,"
        " string_agg(distinct coalesce(host(client_addr), 'a local socket'), ', ') as addresses"
        " from pg_stat_activity"
        " where datname = current_database() and application_name = $1 and pid <> pg_backend_pid()"
        " and (state is distinct from 'idle' or state_change > clock_timestamp() - interval '1 minute')",
        APPLICATION_NAME,
    )
    if row is not None and row["sessions"]:
        raise ConfigurationError(
            f"Migrations are pending, and servers or imports use this database: {row['sessions']} session(s) of"
            f" {APPLICATION_NAME} from {row['addresses']}. A server of an older version fails once the tables change,"
            " and so do the runs that it works. Nothing was changed. Stop every server, migrate, and start the servers"
            " of the new version. With --while-connected the migrations are applied nevertheless."
        )


async def migrate(
    conn: Connection,
    *,
    lock_timeout: float = defaults.MIGRATE_LOCK_SECONDS,
    report: Callable[[str], None] = lambda message: None,
) -> list[str]:
    """Apply all pending migrations, or none of them, and return their names. Write nothing if none is pending.

    Two processes that migrate at once wait for each other. For locks see `retry_on_lock_timeout`.
    Raises ConfigurationError, Busy.
    """
    if not await pending(conn):
        return []
    return await retry_on_lock_timeout(conn, _apply, lock_timeout=lock_timeout, report=report)


async def retry_on_lock_timeout(
    conn: Connection,
    work: Callable[[Connection], Awaitable[T]],
    *,
    lock_timeout: float,
    report: Callable[[str], None],
) -> T:
    """Do some work in a transaction that waits at most `lock_timeout` seconds for each lock, and return its result.

    A transaction that waits for a lock on a table blocks all later ones. So after that time it is rolled back, the
    others may run for as long, and then the work is tried again: ten times in all, with a message to `report` each
    time. Raises Busy after that.
    """
    for number in range(1, _TRIES + 1):
        try:
            async with conn.transaction():
                await conn.execute(f"set local lock_timeout = {max(1, int(lock_timeout * 1000))}")
                return await work(conn)
        except Exception as error:
            if not is_lock_timeout(error):
                raise
        if number < _TRIES:
            report(
                f"Another transaction holds a lock that is needed. Trying again ({number + 1} of {_TRIES})."
            )
            await asyncio.sleep(lock_timeout)
    raise Busy(
        f"Another transaction held a lock that is needed, {_TRIES} times in a row. Nothing was changed."
        " End it (pg_stat_activity shows it), or try again when the database is less busy."
    )


async def _apply(conn: Connection) -> list[str]:
    applied = []
    await conn.execute("select pg_advisory_xact_lock($1)", _LOCK)
    if await conn.fetchval("select to_regclass('migration')") is None:
        await conn.execute(
            "create table migration"
            " (name text primary key, checksum text not null, applied_at timestamptz not null default now())"
        )
    for migration in await pending(conn):
        await conn.execute(migration.sql)
        await conn.execute(
            "insert into migration (name, checksum) values ($1, $2)", migration.name, migration.checksum
        )
        applied.append(migration.name)
    return applied
