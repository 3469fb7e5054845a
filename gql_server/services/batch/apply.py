"""The doing of a run, chunk by chunk, each one transaction; and the report at its end (D20)."""

from dataclasses import dataclass

from gql_server.db.protocols import Database
from gql_server.db.statements import execute, fetch, fetchrow, statement
from gql_server.domain.changes import Source
from gql_server.domain.ids import IdKind, encode_id
from gql_server.services.batch.counting import count_cells, count_people
from gql_server.services.batch.run import LeaseLost, Run
from gql_server.services.batch.signals import notify_moved
from gql_server.services.changes import ChangeSet, Written, write_preferences
from gql_server.services.districts import reason_bits


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is done: its population, and the id of the run that it has undone."""

    population: int
    reverted: str | None


def source(run: Run) -> Source:
    """Return through which door a run's changes come."""
    return Source.BATCH if run.reverts is None else Source.REVERT


async def apply_chunk(db: Database, run: Run, *, lease_seconds: float) -> Written | None:
    """Do the next chunk and commit. Return None where all is done.

    Raises LeaseLost where the run was cancelled or another worker has taken it over; then nothing is written.
    """
    async with db.transaction(run.district.district_id) as conn:
        await fetch(conn, "batch/chunk/settings", lease_seconds=lease_seconds)
        chunk = await fetchrow(conn, "batch/chunk/open", **run.held, lease_seconds=lease_seconds)
        if chunk is None:
            raise LeaseLost
        if chunk["chunk"] is None:
            return None
        bits = await reason_bits(conn, run.district.district_id)
        await execute(conn, "batch/chunk/close", **run.key, chunk=chunk["chunk"], subjects=chunk["subjects"])
        # Here: what follows locks the district, for no longer than it must.
        await notify_moved(conn, **run.key)
        written = await write_preferences(
            conn,
            ChangeSet(run.district.district_id, source(run), run.requested_by, run.batch_run_id),
            statement("batch/chunk/target").having(**run.key, chunk=chunk["chunk"]),
            household=chunk["household"],
            keep_chosen=run.keep_chosen,
        )
        await count_cells(conn, run, bits, written.tallies)
        if chunk["household"] and written.revision is not None:
            changed = statement("batch/chunk/changed_households").having(revision=written.revision)
            await count_people(conn, run, chunk["today"], changed, revision=written.revision)
    return written


async def finish_run(db: Database, run: Run) -> Ended:
    """End a run whose chunks are all done; a run that it undoes is then REVERTED.

    Raises LeaseLost, and RuntimeError where chunks are missing.
    """
    async with db.transaction(run.district.district_id) as conn:
        row = await fetchrow(conn, "batch/run/finish", **run.held)
        if row is None:
            raise LeaseLost
        if not row["whole"]:
            raise RuntimeError("The chunks of the run are used up, and it has not done all that it planned.")
        await notify_moved(conn, **run.key)
        if row["reverted"] is not None:
            await notify_moved(conn, district_id=run.district.district_id, batch_run_id=row["reverted"])
    reverted = None if row["reverted"] is None else encode_id(IdKind.BATCH_RUN, row["reverted"])
    return Ended(row["population"], reverted)
