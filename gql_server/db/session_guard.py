"""Runs SQL that plug-ins wrote: every change to the session is undone before anybody else gets the connection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gql_server.db.database_errors import CONNECTION_LOST
from gql_server.db.protocols import Connection

_BEGIN = "BEGIN READ ONLY;SAVEPOINT others"
# The savepoint makes the other two statements run after an error too. Advisory locks of the session outlive a rollback.
_RESTORE = "ROLLBACK TO SAVEPOINT others;SELECT pg_catalog.pg_advisory_unlock_all();ROLLBACK"


@asynccontextmanager
async def restored_session(conn: Connection) -> AsyncIterator[None]:
    """Run the block in a read-only transaction, roll it back, and restore the session's settings and locks.

    The connection must not be inside a transaction.
    """
    await conn.execute(_BEGIN)
    try:
        yield
    except BaseException:
        with suppress(*CONNECTION_LOST):
            await conn.execute(_RESTORE)
        raise
    await conn.execute(_RESTORE)
