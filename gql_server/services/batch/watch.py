"""Watches a run: yields every change of its status or progress, whichever process works on it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from gql_server.db.database_errors import is_transient
from gql_server.db.protocols import Database
from gql_server.db.statements import fetchrow
from gql_server.domain import defaults
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.viewer import Viewer, require_admin
from gql_server.services.batch.signals import RunSignals, wait_for_signal
from gql_server.services.batch.states import unknown_run


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run. `done` and `total` count people and households; `total` is 0 before the run is planned.

    The `planning_` fields are None unless the run is PLANNING: see PlanProgress.
    """

    status: str
    done: int
    total: int
    population: int
    at_rest: bool
    planning_step: str | None
    planning_done: int | None
    planning_total: int | None


async def watch_run(
    db: Database,
    viewer: Viewer,
    run_id: str,
    signals: RunSignals,
    *,
    poll_seconds: float = defaults.WATCH_SECONDS,
) -> AsyncIterator[RunState]:
    """Yield a run's state at once, then after every change, and for the last time when the run has ended or is PLANNED.

    The state is polled; a signal only brings the next read forward. No connection is held between reads. A state that
    lasts for less than the time between two reads is not seen. If the database cannot be reached for a while, changes
    are yielded late.

    Raises Forbidden unless the viewer is an administrator, Unavailable if the first read fails, and Rejected with
    UNKNOWN_RUN if the viewer's district has no run of that id.
    """
    require_admin(viewer, "watch a batch run")
    district_id, batch_run_id = viewer.district.district_id, parse_id(IdKind.BATCH_RUN, run_id)
    last = None if batch_run_id is None else await _read_state(db, district_id, batch_run_id)
    if batch_run_id is None or last is None:
        raise unknown_run()
    yield last
    with signals.watch(district_id, batch_run_id) as changed:
        while not last.at_rest:
            try:
                state = await _read_state(db, district_id, batch_run_id)
            except Exception as error:
                if not is_transient(error):
                    raise
                state = last
            if state is None:
                return
            if state != last:
                last = state
                yield last
                continue
            await wait_for_signal(changed, poll_seconds)


async def _read_state(db: Database, district_id: int, batch_run_id: int) -> RunState | None:
    async with db.acquire(district_id) as conn:
        row = await fetchrow(conn, "batch/run/state", district_id=district_id, batch_run_id=batch_run_id)
    return None if row is None else RunState(**dict(row.items()))
