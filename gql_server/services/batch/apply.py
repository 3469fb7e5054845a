"""Applies a planned run chunk by chunk, each in one transaction, and finishes it (D20)."""

from dataclasses import dataclass

from gql_server.db.protocols import Database
from gql_server.db.statements import execute, fetch, fetchrow, statement
from gql_server.domain.changes import Source
from gql_server.domain.ids import IdKind, encode_id
from gql_server.services.batch.counting import count_cells, count_people
from gql_server.services.batch.run import LeaseLost, Run
from gql_server.services.batch.signals import notify_run_changed
from gql_server.services.changes import ChangeSet, WriteResult, write_preferences
from gql_server.services.districts import reason_bits


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that is DONE: the number of people selected, and the id of the run that it has reverted, if any."""

    population: int
    reverted: str | None


def change_source(run: Run) -> Source:
    """Return the source that a run's changes are logged with."""
    return Source.BATCH if run.reverts is None else Source.REVERT


async def apply_chunk(db: Database, run: Run, *, lease_seconds: float) -> WriteResult | None:
    """Apply the next chunk and commit. Return None if no chunk is left.

    Raises LeaseLost if the run was cancelled or another worker has claimed it; then nothing is written.
    """
    async with db.transaction(run.district.district_id) as conn:
        await fetch(conn, "batch/chunk/settings", lease_seconds=lease_seconds)
        chunk = await fetchrow(conn, "batch/chunk/open", **run.lease_key, lease_seconds=lease_seconds)
        if chunk is None:
            raise LeaseLost
        if chunk["chunk"] is None:
            return None
        bits = await reason_bits(conn, run.district.district_id)
        await execute(conn, "batch/chunk/close", **run.key, chunk=chunk["chunk"], subjects=chunk["subjects"])
        # Notify before the write: the write locks the district's row, which should be held as briefly as possible.
        await notify_run_changed(conn, **run.key)
        written = await write_preferences(
            conn,
            ChangeSet(run.district.district_id, change_source(run), run.requested_by, run.batch_run_id),
            statement("batch/chunk/target").having(**run.key, chunk=chunk["chunk"]),
            household=chunk["household"],
            keep_chosen=run.keep_chosen,
        )
        await count_cells(conn, run, bits, written.counts)
        if chunk["household"] and written.revision is not None:
            changed = statement("batch/chunk/changed_households").having(revision=written.revision)
            await count_people(conn, run, chunk["today"], changed, revision=written.revision)
    return written


async def finish_run(db: Database, run: Run) -> FinishedRun:
    """Set a run whose chunks are all applied to DONE, and the run that it reverts to REVERTED.

    Raises LeaseLost, and RuntimeError if the chunks did not cover the whole plan.
    """
    async with db.transaction(run.district.district_id) as conn:
        row = await fetchrow(conn, "batch/run/finish", **run.lease_key)
        if row is None:
            raise LeaseLost
        if not row["whole"]:
            raise RuntimeError("All chunks of the run are applied, but they do not cover its plan.")
        await notify_run_changed(conn, **run.key)
        if row["reverted"] is not None:
            await notify_run_changed(conn, district_id=run.district.district_id, batch_run_id=row["reverted"])
    reverted = None if row["reverted"] is None else encode_id(IdKind.BATCH_RUN, row["reverted"])
    return FinishedRun(row["population"], reverted)
