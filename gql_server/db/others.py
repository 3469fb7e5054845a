"""Runs SQL that others wrote: whatever it does to its session is undone before anybody else has the connection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gql_server.db.database_errors import LOST
from gql_server.db.protocols import Connection

_BEGIN = "BEGIN READ ONLY;SAVEPOINT others"
# Also after an error; locks of the session outlive a transaction that is rolled back.
_UNDO = "ROLLBACK TO SAVEPOINT others;SELECT pg_catalog.pg_advisory_unlock_all();ROLLBACK"


@asynccontextmanager
async def undone(conn: Connection) -> AsyncIterator[None]:
    """Run what only reads in a transaction of its own, which is rolled back: the session's settings and locks too.

    The connection must be in no transaction.
    """
    await conn.execute(_BEGIN)
    try:
        yield
    except BaseException:
        with suppress(*LOST):
            await conn.execute(_UNDO)
        raise
    await conn.execute(_UNDO)
