"""Numbered SQL files, applied in order, each in a transaction, under an advisory lock, checksummed.

A runner of our own: the kept libraries need a second driver.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gql_server.db.protocols import Connection
from gql_server.db.statements import resource_folder
from gql_server.errors import ConfigurationError

_LOCK = 0x67716C73  # "gqls": any fixed number that no other program is likely to lock


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return all migrations in order."""
    files = sorted((resource_folder("sql") / "migrations").glob("*.sql"))
    return [Migration(file.stem, file.read_text(encoding="utf-8")) for file in files]


async def pending(conn: Connection) -> Sequence[Migration]:
    """Return the migrations that the database lacks. Raises ConfigurationError where an applied one has changed."""
    if await conn.fetchval("select to_regclass('migration')") is None:
        return migrations()
    applied = {
        row["name"]: row["checksum"] for row in await conn.fetch("select name, checksum from migration")
    }
    for migration in migrations():
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise ConfigurationError(
                f"Migration {migration.name} was changed after it was applied to this database. "
                "Restore the file and put the change into a new migration."
            )
    return [migration for migration in migrations() if migration.name not in applied]


async def migrate(conn: Connection) -> list[str]:
    """Apply what is pending and return the names. Two that run at once wait for each other."""
    done = []
    async with conn.transaction():
        await conn.execute("select pg_advisory_xact_lock($1)", _LOCK)
        await conn.execute(
            "create table if not exists migration"
            " (name text primary key, checksum text not null, applied_at timestamptz not null default now())"
        )
        for migration in await pending(conn):
            await conn.execute(migration.sql)
            await conn.execute(
                "insert into migration (name, checksum) values ($1, $2)", migration.name, migration.checksum
            )
            done.append(migration.name)
    return done
