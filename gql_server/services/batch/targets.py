"""The targets of a run: what is to be done with each of its channels, decided from a preference as it was read."""

from gql_server.db.protocols import Connection, Row
from gql_server.db.statements import fetchrow, statement
from gql_server.domain.sql import Sql
from gql_server.services.batch.run import Run


def decided(run: Run, channels: Sql) -> Sql:
    """Return a SELECT of what the run does with each of the channels: see sql/batch/decide.sql."""
    return statement("batch/decide").fill(channel=channels).having(keep_chosen=run.keep_chosen)


async def write_targets(conn: Connection, run: Run, channels: Sql, *, state: str, chunks: int) -> Row:
    """Decide what the run does with the channels, and write it as chunks that follow the first `chunks`.

    Return chunks (how many there are now), total (people and households) and unknown: see
    sql/batch/plan/write_targets.sql, which says what `channels` selects.
    """
    write = statement("batch/plan/write_targets").fill(decided=decided(run, channels))
    row = await fetchrow(conn, write, **run.key, state=state, chunks=chunks)
    assert row is not None
    return row
