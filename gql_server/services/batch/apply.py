"""The doing of a run, chunk by chunk, each one transaction; and the report at its end (D20)."""

from collections.abc import Sequence

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetch, fetchrow, fetchval, statement
from gql_server.domain.changes import Source
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.reasons import ReasonBits
from gql_server.services.batch.run import LeaseLost, Run
from gql_server.services.changes import ChangeSet, Tally, Written, write_preferences
from gql_server.services.districts import reason_bits


async def apply_chunk(db: Database, run: Run, *, lease_seconds: float) -> Written | None:
    """Do the next chunk and commit. Return None where all is done.

    Raises LeaseLost where another worker has taken the run over; then nothing is written.
    """
    async with db.transaction() as conn:
        chunk = await fetchrow(conn, "batch/next_chunk", **run.held, lease_seconds=lease_seconds)
        if chunk is None:
            raise LeaseLost
        if chunk["chunk"] is None:
            return None
        bits = await reason_bits(conn, run.district.district_id)
        await execute(conn, "batch/done", **run.key, chunk=chunk["chunk"], subjects=chunk["subjects"])
        await fetch(conn, "batch/chunk_settings")
        written = await write_preferences(
            conn,
            ChangeSet(run.district.district_id, Source.BATCH, run.requested_by, run.batch_run_id),
            statement("batch/chunk").having(**run.key, chunk=chunk["chunk"]),
            household=chunk["household"],
            keep_chosen=run.keep_chosen,
        )
        await _count(conn, run, bits, written.tallies)
    return written


async def finish_run(db: Database, run: Run, *, lease_seconds: float) -> int:
    """Count the people whom the changes concern, end the run and return its population. Raises LeaseLost."""
    async with db.transaction() as conn:
        if await fetchval(conn, "batch/renew", **run.held, lease_seconds=lease_seconds) is None:
            raise LeaseLost
        await fetch(conn, "batch/count_settings")
        await execute(conn, "batch/count_people", **run.key)
        return int(await fetchval(conn, "batch/finish", **run.held))


async def _count(conn: Connection, run: Run, bits: ReasonBits, tallies: Sequence[Tally]) -> None:
    """Add a chunk's tallies to the cells of the run."""
    cells: dict[tuple[ContactPointKind, str], list[int]] = {}
    for tally in tallies:
        for reason in bits.codes(tally.asked):
            bit = 1 << bits[reason]
            counts = cells.setdefault((tally.contact_point, reason), [0, 0, 0, 0])
            went = (
                tally.flipped & bit,
                not (tally.flipped | tally.kept) & bit,
                tally.overwrote & bit,
                tally.kept & bit,
            )
            for index, counted in enumerate(went):
                counts[index] += tally.rows if counted else 0
    columns = [list(column) for column in zip(*cells.values(), strict=True)] or [[], [], [], []]
    await execute(
        conn,
        "batch/count",
        **run.key,
        contact_points=[contact_point for contact_point, _ in cells],
        reasons=[reason for _, reason in cells],
        updated=columns[0],
        unchanged=columns[1],
        overwrote=columns[2],
        kept=columns[3],
    )
