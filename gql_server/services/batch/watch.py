"""Watches a run from outside: tells of every change of its status or progress, whichever process works it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from gql_server.db.database_errors import is_transient
from gql_server.db.protocols import Database
from gql_server.db.statements import fetchrow
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import Forbidden, rejected
from gql_server.services.batch.signals import RunSignals, wait_for_signal

POLL_SECONDS = 0.5
"""How often a run that is watched is looked at where no signal comes."""


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run is. `done` and `total` count people and households; `total` is 0 before the plan.

    The planning's are None unless the run is PLANNING: see PlanProgress.
    """

    status: str
    done: int
    total: int
    population: int
    ended: bool
    planning_step: str | None
    planning_done: int | None
    planning_total: int | None


async def watch_run(
    db: Database,
    viewer: Viewer,
    run_id: str,
    signals: RunSignals,
    *,
    poll_seconds: float = POLL_SECONDS,
) -> AsyncIterator[RunState]:
    """Yield a run's state at once, again whenever it has changed, and last when the run has ended.

    A signal only hastens the next look at the database: without any a run is followed by the poll. No connection
    is held between looks. A state that lasted for less than the time between looks is not seen.
    A database that cannot be reached for a while delays what is told, and ends nothing.

    Raises Forbidden to all but administrators, Unavailable where the first look fails, and Rejected with
    UNKNOWN_RUN for an id that finds no run of the viewer's district.
    """
    if viewer.role is not Role.ADMIN:
        raise Forbidden("Only an administrator may watch a batch run.")
    district_id, batch_run_id = viewer.district.district_id, parse_id(IdKind.BATCH_RUN, run_id)
    told = None if batch_run_id is None else await _look(db, district_id, batch_run_id)
    if batch_run_id is None or told is None:
        raise rejected(
            "UNKNOWN_RUN", "There is no such run. `batchRuns` lists the runs of the district.", "id"
        )
    yield told
    with signals.watch(district_id, batch_run_id) as moved:
        while not told.ended:
            try:
                state = await _look(db, district_id, batch_run_id)
            except Exception as error:
                if not is_transient(error):
                    raise
                state = told
            if state is None:
                return
            if state != told:
                told = state
                yield told
                continue
            await wait_for_signal(moved, poll_seconds)


async def _look(db: Database, district_id: int, batch_run_id: int) -> RunState | None:
    async with db.acquire(district_id) as conn:
        row = await fetchrow(conn, "batch/run/state", district_id=district_id, batch_run_id=batch_run_id)
    return None if row is None else RunState(**dict(row.items()))
