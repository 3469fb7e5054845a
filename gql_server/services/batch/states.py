"""What an administrator may do with a run in each state: apply a plan, cancel, revert (D21, D29)."""

from gql_server.db.protocols import Connection, Row
from gql_server.db.statements import execute, fetchrow, fetchval
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.viewer import Viewer
from gql_server.errors import Rejected, rejected
from gql_server.hooks import RunSummary
from gql_server.services.batch.signals import notify_moved

_NOT_APPLYING = ("QUEUED", "PLANNING", "PLANNED")


async def queue_plan(conn: Connection, viewer: Viewer, run_id: str) -> int:
    """Put a plan into the queue and return the run's number. Raises Rejected: UNKNOWN_RUN, WRONG_STATE."""
    key, run = await _lock(conn, viewer, run_id)
    if run["status"] != "PLANNED":
        raise _wrong_state(run, "A run can be applied while it is PLANNED.")
    await execute(conn, "batch/run/queue", **key)
    await notify_moved(conn, **key)
    return key["batch_run_id"]


async def cancel_run(conn: Connection, viewer: Viewer, run_id: str) -> tuple[int, RunSummary | None]:
    """Cancel a run, or begin to undo what it has applied. Return its number, and the run if it has ended.

    A cancelled revert leaves the run that it was to undo as it was. Raises Rejected: UNKNOWN_RUN, WRONG_STATE.
    """
    key, run = await _lock(conn, viewer, run_id)
    if run["status"] == "APPLYING" and run["reverts_run_id"] is None:
        await _begin_revert(conn, viewer, key, status_before="CANCELLED", at_once=True)
        return key["batch_run_id"], None
    if run["status"] not in _NOT_APPLYING:
        words = "A run can be cancelled until it has ended; a revert, until it applies."
        raise _wrong_state(run, words)
    row = await fetchrow(conn, "batch/run/cancel", **key)
    assert row is not None
    # The rows of a plan in the making may be locked by it: it finds itself cancelled, and its worker removes them.
    if run["status"] != "PLANNING":
        await execute(conn, "batch/housekeeping/remove_plan", **key)
    await restore_status(conn, key, run["reverts_run_id"])
    await notify_moved(conn, **key)
    return key["batch_run_id"], RunSummary(
        run_id=run_id,
        district=viewer.district.code,
        mode=row["mode"],
        status="CANCELLED",
        population=row["population"],
    )


async def begin_revert(conn: Connection, viewer: Viewer, run_id: str) -> int:
    """Record the run that undoes a run and return its number. Raises Rejected: UNKNOWN_RUN, WRONG_STATE.

    What was stopped in the middle can be undone like what is DONE. A revert is not undone: the run can be asked
    for again.
    """
    key, run = await _lock(conn, viewer, run_id)
    if run["reverts_run_id"] is not None:
        raise _wrong_state(run, "A revert is not undone: submit the batch again.")
    stopped = run["status"] in ("FAILED", "CANCELLED") and run["chunks_done"] > 0
    if run["status"] != "DONE" and not stopped:
        raise _wrong_state(run, "A run can be reverted once it has changed preferences and is DONE.")
    return await _begin_revert(conn, viewer, key, status_before=run["status"], at_once=False)


async def restore_status(conn: Connection, key: dict[str, int], reverts: int | None) -> None:
    """Let a run stand as it was before a revert, by the revert's key, that has ended without undoing it."""
    if reverts is not None:
        await execute(conn, "batch/revert/restore_status", **key)
        await notify_moved(conn, district_id=key["district_id"], batch_run_id=reverts)


async def _lock(conn: Connection, viewer: Viewer, run_id: str) -> tuple[dict[str, int], Row]:
    """Lock a run of the viewer's district and return its key and state."""
    number = parse_id(IdKind.BATCH_RUN, run_id)
    if number is not None:
        key = {"district_id": viewer.district.district_id, "batch_run_id": number}
        run = await fetchrow(conn, "batch/run/lock", **key)
        if run is not None:
            return key, run
    words = "There is no such run. `batchRuns` lists the runs of the district."
    raise rejected("UNKNOWN_RUN", words, "id")


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
    await notify_moved(conn, **key)
    return revert


def _wrong_state(run: Row, rule: str) -> Rejected:
    return rejected("WRONG_STATE", f"The run is {run['status']}. {rule}", "id")
