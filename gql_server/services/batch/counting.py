"""The counts of a run's cells: foreseen by a plan, or of what was really done (D16-D20)."""

from collections.abc import Sequence
from datetime import date

from gql_server.db.protocols import Connection
from gql_server.db.statements import execute, statement
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.sql import Sql
from gql_server.services.batch.run import Run
from gql_server.services.changes import Tally

_COUNTS = ("updated", "unchanged", "overwrote", "kept", "left")


def counts_slot(run: Run) -> dict[str, Sql]:
    """Return the slot {counts}: where what a run's plan foresees is counted, or what it does (D20)."""
    return {"counts": Sql("batch_forecast" if run.plan_only else "batch_cell")}


async def count_cells(conn: Connection, run: Run, bits: ReasonBits, tallies: Sequence[Tally]) -> None:
    """Add tallies to the cells of the run."""
    cells: dict[tuple[ContactPointKind, str], list[int]] = {}
    for tally in tallies:
        went = _went(tally, reverts=run.reverts is not None)
        for reason in bits.codes(tally.asked):
            bit = 1 << bits[reason]
            counts = cells.setdefault((tally.contact_point, reason), [0] * len(_COUNTS))
            for index, mask in enumerate(went):
                counts[index] += tally.rows if mask & bit else 0
    await execute(
        conn,
        statement("batch/count/cells").fill(**counts_slot(run)),
        **run.key,
        contact_points=[contact_point for contact_point, _ in cells],
        reasons=[reason for _, reason in cells],
        **{name: [counts[index] for counts in cells.values()] for index, name in enumerate(_COUNTS)},
    )


def _went(tally: Tally, *, reverts: bool) -> tuple[int, ...]:
    """Return the bits that each of the counts counts. What a revert finds as it would have it, others have changed."""
    same = tally.asked & ~(tally.flipped | tally.kept | tally.skipped_as_chosen)
    if reverts:
        return tally.flipped, 0, tally.overwrote, tally.kept, tally.skipped_as_chosen | same
    return tally.flipped, same, tally.overwrote, tally.kept, tally.skipped_as_chosen


async def count_people(
    conn: Connection, run: Run, today: date, changed: Sql, *, revision: int | None
) -> None:
    """Add the people whom the changes of a household phone concern, each once in all of a run (D17).

    `changed`: household_id and the bits; `revision`: that of the changes, None where nothing was changed before.
    """
    counted = statement("batch/count/people").fill(changed=changed, **counts_slot(run))
    await execute(conn, counted, **run.key, today=today, revision=revision)
