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
        "batch/count",
        **run.key,
        contact_points=[contact_point for contact_point, _ in cells],
        reasons=[reason for _, reason in cells],
        **{name: [counts[index] for counts in cells.values()] for index, name in enumerate(_COUNTS)},
    )


def _went(tally: Tally, *, reverts: bool) -> tuple[int, ...]:
    """Return the bits that each of the counts counts. What a revert finds as it would have it, others have changed."""
    same = tally.asked & ~(tally.flipped | tally.kept | tally.yielded)
    if reverts:
        return tally.flipped, 0, tally.overwrote, tally.kept, tally.yielded | same
    return tally.flipped, same, tally.overwrote, tally.kept, tally.yielded


async def count_people(
    conn: Connection, key: dict[str, int], changed: Sql | None = None, today: date | None = None
) -> None:
    """Count the people whom a run concerns (D17), by its log or by `changed`: household_id and the bits.

    `today`: the day that "active" is judged by (D6), where it is not yet noted with the run.
    """
    changed = changed or statement("batch/logged").having(batch_run_id=key["batch_run_id"])
    await execute(conn, statement("batch/count_people").fill(changed=changed), **key, today=today)
