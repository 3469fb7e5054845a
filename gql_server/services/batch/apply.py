"""Applies a planned run chunk by chunk, and finishes it (D20).

A chunk is one transaction. A second one follows where somebody else changed the same preferences after the plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gql_server.db.protocols import Connection, Database, Row
from gql_server.db.statements import fetch, fetchrow, statement
from gql_server.domain.changes import Source
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.reasons import ReasonBits
from gql_server.services.batch.counting import count_cells, count_people
from gql_server.services.batch.run import LeaseLost, Run
from gql_server.services.batch.signals import CHANNEL, notify_run_changed
from gql_server.services.batch.targets import write_targets
from gql_server.services.changes import ConcurrentInsert, MaskCount, WriteResult, log_slots, table_slots


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that is DONE: the number of people selected, and the id of the run that it has reverted, if any."""

    population: int
    reverted: str | None


def change_source(run: Run) -> Source:
    """Return the source that a run's changes are logged with."""
    return Source.BATCH if run.reverts is None else Source.REVERT


async def apply_chunk(db: Database, run: Run, *, lease_seconds: float) -> WriteResult | None:
    """Write the next chunk, or what is left of it to be written under locks, and commit. Return None if all are done.

    Raises LeaseLost if the run was cancelled or another worker has claimed it; then nothing is written.
    """
    while True:
        try:
            async with db.transaction(run.district.district_id) as conn:
                return await _apply_chunk(conn, run, lease_seconds)
        except ConcurrentInsert:
            # The row is there now, and no row is ever deleted: this happens once at most for each missing row.
            continue


async def _apply_chunk(conn: Connection, run: Run, lease_seconds: float) -> WriteResult | None:
    chunk = await fetchrow(
        conn, "batch/chunk/open", **run.lease_key, lease_seconds=lease_seconds, channel=CHANNEL
    )
    if chunk is None:
        raise LeaseLost
    if chunk["chunk"] is None:
        return None
    written = await _write_chunk(conn, run, chunk)
    bits = ReasonBits(dict(zip(chunk["reasons"], chunk["bits"], strict=True)))
    await count_cells(conn, run, bits, written.counts)
    if chunk["household"] and written.revision is not None:
        changed = statement("batch/chunk/changed_households").having(revision=written.revision)
        await count_people(conn, run, chunk["today"], changed, revision=written.revision)
    return written


async def _write_chunk(conn: Connection, run: Run, chunk: Row) -> WriteResult:
    """Write what is still as the plan read it, or, decided again under locks, what was not. Raises ConcurrentInsert."""
    key, state = {**run.key, "chunk": chunk["chunk"]}, "PLANNED"
    if chunk["state"] == "CHANGED":
        await _decide_again(conn, run, chunk, key)
        state = "LOCKED"
    rows = await fetch(
        conn,
        statement("batch/write_chunk").fill(**log_slots(chunk["household"])),
        **key,
        state=state,
        household=chunk["household"],
        subjects=chunk["subjects"],
        keep_chosen=run.keep_chosen,
        source=change_source(run),
        actor=run.requested_by,
    )
    if state == "LOCKED" and rows[0]["kept_back"]:
        raise ConcurrentInsert
    counts = tuple(MaskCount.from_row(row) for row in rows if row["contact_point"] is not None)
    return WriteResult(rows[0]["revision"], counts)


async def _decide_again(conn: Connection, run: Run, chunk: Row, key: Mapping[str, object]) -> None:
    """Lock what somebody changed after the plan, and make targets of it as it is now."""
    household = chunk["household"]
    tables = table_slots(household)
    await fetch(conn, statement("batch/chunk/lock").fill(**tables), **key)
    now = statement("batch/chunk/changed_now").fill(**tables).having(**key, reverts=run.reverts is not None)
    await write_targets(conn, run, now, household=household, state="LOCKED", chunks=chunk["chunk"] - 1)


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
