"""Counts the cells of a run: what its plan predicts, or what the run has done (D16-D20)."""

from collections.abc import Sequence
from datetime import date

from gql_server.db.protocols import Connection
from gql_server.db.statements import execute, statement
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.sql import Sql
from gql_server.services.batch.run import Run
from gql_server.services.changes import MaskCount

_COUNTS = ("updated", "unchanged", "overwrote", "kept", "left")


def counts_slot(run: Run) -> dict[str, Sql]:
    """Return the slot {counts}: the table for the forecast of a plan, or for the results of a run (D20)."""
    return {"counts": Sql("batch_forecast" if run.plan_only else "batch_cell")}


async def count_cells(conn: Connection, run: Run, bits: ReasonBits, mask_counts: Sequence[MaskCount]) -> None:
    """Add the counts of a write to the cells of the run."""
    cells: dict[tuple[ContactPointKind, str], list[int]] = {}
    for mask_count in mask_counts:
        masks = _masks_to_count(mask_count, reverts=run.reverts is not None)
        for reason in bits.codes(mask_count.asked):
            bit = 1 << bits[reason]
            counts = cells.setdefault((mask_count.contact_point, reason), [0] * len(_COUNTS))
            for index, mask in enumerate(masks):
                counts[index] += mask_count.rows if mask & bit else 0
    await execute(
        conn,
        statement("batch/count/cells").fill(**counts_slot(run)),
        **run.key,
        contact_points=[contact_point for contact_point, _ in cells],
        reasons=[reason for _, reason in cells],
        **{name: [counts[index] for counts in cells.values()] for index, name in enumerate(_COUNTS)},
    )


def _masks_to_count(count: MaskCount, *, reverts: bool) -> tuple[int, ...]:
    """Return the bits of each entry of `_COUNTS`.

    A revert that finds a bit already as it would set it counts the bit as left alone: somebody else changed it.
    """
    unchanged = count.asked & ~(count.flipped | count.kept | count.skipped_as_chosen)
    if reverts:
        return count.flipped, 0, count.overwrote, count.kept, count.skipped_as_chosen | unchanged
    return count.flipped, unchanged, count.overwrote, count.kept, count.skipped_as_chosen


async def count_people(
    conn: Connection, run: Run, today: date, changed: Sql, *, revision: int | None
) -> None:
    """Count the people whom changes of a household phone affect, each person once in the whole run (D17).

    `changed`: household_id and the changed bits. `revision`: the revision of the changes, None for a forecast.
    """
    counted = statement("batch/count/people").fill(changed=changed, **counts_slot(run))
    await execute(conn, counted, **run.key, today=today, revision=revision)
