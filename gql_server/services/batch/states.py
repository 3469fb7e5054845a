"""State changes of a run that an administrator asks for: apply a plan, cancel, revert (D21, D29)."""

from gql_server.db.protocols import Connection, Row
from gql_server.db.statements import execute, fetch, fetchrow, fetchval
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.viewer import Viewer
from gql_server.errors import Rejected, rejected
from gql_server.hooks import RunSummary
from gql_server.services.batch.run import summary_of
from gql_server.services.batch.signals import notify_run_changed

_BEFORE_APPLYING = ("QUEUED", "PLANNING", "PLANNED")
_REVERTIBLE = (
    "A run can be reverted when it is DONE, and if it has set preferences, when it FAILED or was CANCELLED."
)


async def queue_plan(conn: Connection, viewer: Viewer, run_id: str) -> int:
    """Put a plan into the queue and return the run's number. Raises Rejected: UNKNOWN_RUN, WRONG_STATE."""
    key, run = await _lock_run(conn, viewer, run_id)
    if run["status"] != "PLANNED":
        raise _wrong_state(run, "A run can be applied while it is PLANNED.")
    await execute(conn, "batch/run/queue", **key)
    await notify_run_changed(conn, **key)
    return key["batch_run_id"]


async def cancel_run(conn: Connection, viewer: Viewer, run_id: str) -> tuple[int, list[RunSummary]]:
    """Cancel a run, or record a revert if it is being applied. Return its number, and the summaries of what has ended.

    A cancelled revert leaves the run that it should have reverted as it was; that run ends with it if it had not ended
    before. Raises Rejected: UNKNOWN_RUN, WRONG_STATE.
    """
    key, run = await _lock_run(conn, viewer, run_id)
    if run["status"] == "APPLYING" and run["reverts_run_id"] is None:
        await _begin_revert(conn, viewer, key, status_before="CANCELLED", at_once=True)
        return key["batch_run_id"], []
    if run["status"] not in _BEFORE_APPLYING:
        raise _wrong_state(run, "A run can be cancelled until it has ended; a revert, until it applies.")
    row = await fetchrow(conn, "batch/run/cancel", **key)
    assert row is not None
    # A worker that is planning may hold locks on the plan's rows. It notices the cancellation and deletes them itself.
    if run["status"] != "PLANNING":
        await execute(conn, "batch/housekeeping/remove_plan", **key)
    restored = await restore_status(conn, key, viewer.district.code)
    await notify_run_changed(conn, **key)
    return key["batch_run_id"], [summary_of(row, viewer.district.code), *restored]


async def begin_revert(conn: Connection, viewer: Viewer, run_id: str) -> int:
    """Record a run that reverts a run, and return the number of the new run.

    A run that failed or was cancelled after it had applied chunks can be reverted like one that is DONE. A revert
    cannot be reverted; the batch can be submitted again. Raises Rejected: UNKNOWN_RUN, WRONG_STATE, TOO_OLD_TO_REVERT.
    """
    key, run = await _lock_run(conn, viewer, run_id)
    if run["reverts_run_id"] is not None:
        raise _wrong_state(run, "A revert cannot be reverted. Submit the batch again.")
    stopped = run["status"] in ("FAILED", "CANCELLED") and run["chunks_done"] > 0
    if run["status"] != "DONE" and not stopped:
        raise _wrong_state(run, _REVERTIBLE)
    if run["folded"]:
        raise too_old_to_revert()
    return await _begin_revert(conn, viewer, key, status_before=run["status"], at_once=False)


async def restore_status(conn: Connection, key: dict[str, int], district: str) -> list[RunSummary]:
    """Give a run the status back that it had before a revert that failed or was cancelled.

    Nothing is done where `key` is not the key of a revert. Return a summary of the run if it has ended with its revert:
    it was being applied when it was cancelled. district: the district's code.
    """
    row = await fetchrow(conn, "batch/revert/restore_status", **key)
    if row is None:
        return []
    await notify_run_changed(conn, district_id=key["district_id"], batch_run_id=row["batch_run_id"])
    return [summary_of(row, district)] if row["ended"] else []


async def cancel_old_plans(conn: Connection, days: int) -> list[RunSummary]:
    """Cancel the plans of all districts that nobody has applied for so many days, and return their summaries."""
    message = f"The plan was not applied within {days} days. Make a new one."
    rows = await fetch(
        conn, "batch/housekeeping/cancel_old_plans", kept_seconds=days * 86400.0, error=message
    )
    for row in rows:
        await notify_run_changed(conn, district_id=row["district_id"], batch_run_id=row["batch_run_id"])
    return [summary_of(row, row["code"]) for row in rows]


async def _lock_run(conn: Connection, viewer: Viewer, run_id: str) -> tuple[dict[str, int], Row]:
    """Lock a run of the viewer's district and return its key and state. Raises Rejected: UNKNOWN_RUN."""
    number = parse_id(IdKind.BATCH_RUN, run_id)
    if number is not None:
        key = {"district_id": viewer.district.district_id, "batch_run_id": number}
        run = await fetchrow(conn, "batch/run/lock", **key)
        if run is not None:
            return key, run
    raise unknown_run()


async def _begin_revert(
    conn: Connection, viewer: Viewer, key: dict[str, int], *, status_before: str, at_once: bool
) -> int:
    revert: int = await fetchval(
        conn,
        "batch/revert/begin",
        **key,
        requested_by=viewer.actor,
        status_before=status_before,
        at_once=at_once,
    )
    await execute(
        conn,
        "batch/revert/insert_cells",
        district_id=key["district_id"],
        batch_run_id=revert,
        reverts_run_id=key["batch_run_id"],
    )
    await execute(conn, "batch/housekeeping/remove_plan", **key)
    await notify_run_changed(conn, **key)
    return revert


def unknown_run() -> Rejected:
    """Return the error for an id that no run of the viewer's district has."""
    return rejected("UNKNOWN_RUN", "There is no such run. `batchRuns` lists the runs of the district.", "id")


def too_old_to_revert() -> Rejected:
    """Return the error for a run of which the log no longer holds all that it did (D28, D29)."""
    message = (
        "The run is too old to be reverted: the district's log no longer holds all that it did. Submit a batch that"
        " sets the preferences as they should be."
    )
    return rejected("TOO_OLD_TO_REVERT", message, "id")


def _wrong_state(run: Row, allowed: str) -> Rejected:
    return rejected("WRONG_STATE", f"The run is {run['status']}. {allowed}", "id")
