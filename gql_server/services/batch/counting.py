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
    sums: dict[tuple[ContactPointKind, str], list[int]] = {}
    for count in mask_counts:
        masks = (count.asked, count.flipped, count.overwrote, count.kept, count.skipped_as_chosen)
        for reason in bits.codes(masks[0] | masks[1] | masks[2] | masks[3] | masks[4]):
            bit = 1 << bits[reason]
            cell = sums.setdefault((count.contact_point, reason), [0] * len(masks))
            for index, mask in enumerate(masks):
                cell[index] += count.rows if mask & bit else 0
    cells = {cell: _cell_counts(*asked_first) for cell, asked_first in sums.items()}
    await execute(
        conn,
        statement("batch/count/cells").fill(**counts_slot(run)),
        **run.key,
        contact_points=[contact_point for contact_point, _ in cells],
        reasons=[reason for _, reason in cells],
        **{name: [counts[index] for counts in cells.values()] for index, name in enumerate(_COUNTS)},
    )


def _cell_counts(asked: int, updated: int, overwrote: int, kept: int, skipped: int) -> tuple[int, ...]:
    """Return the entries of `_COUNTS` for one cell."""
    return updated, asked - updated - kept - skipped, overwrote, kept, skipped


async def count_people(
    conn: Connection, run: Run, today: date, changed: Sql, *, revision: int | None
) -> None:
    """Count the people whom changes of a household phone affect, each person once in the whole run (D17).

    `changed`: household_id and the changed bits. `revision`: the revision of the changes, None for a forecast.
    """
    counted = statement("batch/count/people").fill(changed=changed, **counts_slot(run))
    await execute(conn, counted, **run.key, today=today, revision=revision)
