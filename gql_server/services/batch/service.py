"""The service behind the batch mutations: validates a batch, records its run, and waits for the end (D11-D16, D29)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetch, fetchval, statement
from gql_server.domain import defaults
from gql_server.domain.batch import Cell, Setting, named_cells
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.viewer import District, Viewer, require_admin
from gql_server.errors import Rejected, TimedOut, Unavailable, UserError
from gql_server.hooks import Population
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.cell_availability import disabled_cells, not_enabled_errors, unreachable_cells
from gql_server.services.batch.idempotency import claim_idempotency_key, find_run, validate_key
from gql_server.services.batch.request import MAX_WAIT_SECONDS, WAIT_SECONDS, BatchRequest
from gql_server.services.batch.scope import RecordedScope, nobody_selected, plugin_scope, validate_scope
from gql_server.services.batch.signals import RunSignals, wait_for_signal
from gql_server.services.batch.states import begin_revert, cancel_run, queue_plan
from gql_server.services.batch.watch import RunState, watch_run
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.districts import reason_bits
from gql_server.services.rules.plugin_sql import plugin_sql, selection_of
from gql_server.services.rules.redact import log_plugin_failures


class _KeyClaimed(Exception):
    """Another call with the same idempotency key was faster. Its run is committed."""


@dataclass(frozen=True, slots=True)
class _ValidatedRequest:
    """The cells to set, the scope to record (None if it is invalid), and the errors found so far."""

    cells: list[Cell]
    scope: RecordedScope | None
    errors: list[UserError]


class BatchService:
    """Records runs for the worker, changes their state and watches them. `poll_seconds`: how often a run is
    looked at that sends no notification."""

    def __init__(
        self,
        db: Database,
        host: PluginHost,
        worker: BatchWorker,
        signals: RunSignals,
        *,
        poll_seconds: float = defaults.WATCH_SECONDS,
    ) -> None:
        self._db = db
        self._host = host
        self._worker = worker
        self._signals = signals
        self._poll_seconds = poll_seconds

    async def submit(self, viewer: Viewer, request: BatchRequest, wait_seconds: int) -> int:
        """Record a run, wait up to `wait_seconds` for its end, and return its number.

        Raises Forbidden unless the viewer is an administrator, PluginError, and Rejected with all errors at once:
        UNKNOWN_MODE, UNKNOWN_REASON, REASON_NOT_SET_UP, CONFLICTING_CELLS, NO_CELLS, TOO_MANY_CELLS, UNKNOWN_SCHOOL,
        TOO_MANY_SCHOOLS, UNKNOWN_FILTER, WRONG_FILTER_KIND, INVALID_CRITERIA, FILTER_REQUIRED, UNKNOWN_GRADE,
        INVALID_GRADE, TOO_MANY_GRADES, GRADES_NOT_ALLOWED, SCHOOL_YEAR_NOT_ALLOWED, WAIT_SECONDS_OUT_OF_RANGE,
        INVALID_IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_REUSED; then NOBODY_SELECTED (D32), or else CELL_NOT_ENABLED (D15).
        If a run was recorded with the same idempotency key, that run is returned, even if the request would be
        rejected now.
        """
        require_admin(viewer, "set preferences for many people")
        errors = _validate_wait(wait_seconds) + validate_key(request.idempotency_key)
        batch_run_id = None
        async with log_plugin_failures(self._db, viewer.district):
            while batch_run_id is None:
                with suppress(_KeyClaimed):
                    batch_run_id = await self._submit(viewer, request, errors)
        await self._wake_and_wait(viewer.district.district_id, batch_run_id, wait_seconds)
        return batch_run_id

    async def apply(self, viewer: Viewer, run_id: str, wait_seconds: int = WAIT_SECONDS) -> int:
        """Queue a plan to be applied (D21), wait for the end of the run, and return its number.

        Raises Forbidden, and Rejected: UNKNOWN_RUN, WRONG_STATE, WAIT_SECONDS_OUT_OF_RANGE.
        """
        return await self._change_and_wait(queue_plan, viewer, run_id, wait_seconds)

    async def cancel(self, viewer: Viewer, run_id: str) -> int:
        """Cancel a run and return its number. A run that is being applied stops after its chunk and is reverted.

        Raises Forbidden, and Rejected: UNKNOWN_RUN, WRONG_STATE.
        """
        async with self._admin_transaction(viewer) as conn:
            batch_run_id, ended = await cancel_run(conn, viewer, run_id)
        if not ended:
            self._worker.wake()
        for run in ended:
            self._worker.notify_run_finished(run)
        return batch_run_id

    async def revert(self, viewer: Viewer, run_id: str, wait_seconds: int = WAIT_SECONDS) -> int:
        """Revert a run by recording a new run (D29), wait for its end, and return the number of the new run.

        Raises Forbidden, and Rejected: UNKNOWN_RUN, WRONG_STATE, TOO_OLD_TO_REVERT, WAIT_SECONDS_OUT_OF_RANGE.
        """
        return await self._change_and_wait(begin_revert, viewer, run_id, wait_seconds)

    def watch(self, viewer: Viewer, run_id: str) -> AsyncIterator[RunState]:
        """Yield the states of a run until it is at rest: see `watch_run`."""
        return watch_run(self._db, viewer, run_id, self._signals, poll_seconds=self._poll_seconds)

    async def _change_and_wait(
        self,
        change: Callable[[Connection, Viewer, str], Awaitable[int]],
        viewer: Viewer,
        run_id: str,
        wait_seconds: int,
    ) -> int:
        """Change a run's state by `change`, wake the worker, and wait for the end of the run that `change` returns."""
        async with self._admin_transaction(viewer, wait_seconds) as conn:
            batch_run_id = await change(conn, viewer, run_id)
        await self._wake_and_wait(viewer.district.district_id, batch_run_id, wait_seconds)
        return batch_run_id

    @asynccontextmanager
    async def _admin_transaction(self, viewer: Viewer, wait_seconds: int = 0) -> AsyncIterator[Connection]:
        require_admin(viewer, "set preferences for many people")
        if errors := _validate_wait(wait_seconds):
            raise Rejected(errors)
        async with self._db.transaction(viewer.district.district_id) as conn:
            yield conn

    async def _submit(self, viewer: Viewer, request: BatchRequest, errors: Sequence[UserError]) -> int:
        """Record a run, or find the one of the idempotency key, and return its number.

        Raises Rejected with `errors` and all others that are found, and _KeyClaimed: call it again.
        """
        district = viewer.district
        async with self._db.acquire(district.district_id) as conn:
            if not errors:
                recorded = await find_run(conn, district.district_id, request)
                if recorded is not None:
                    return recorded
            validated = await self._validate(conn, district, request, errors)
        if validated.scope is None:
            raise Rejected(validated.errors)
        # The plug-in may be slow, so no connection is held while it is asked.
        scope = plugin_scope(district, validated.scope, request.mode, self._host)
        population = await self._host.calls.population(request.mode, scope)
        async with self._db.transaction(district.district_id) as conn:
            await self._require_valid(conn, district, request, validated, population)
            batch_run_id = await _record(conn, viewer, request, validated.scope, validated.cells)
            if not await claim_idempotency_key(conn, district.district_id, request, batch_run_id):
                raise _KeyClaimed
        return batch_run_id

    async def _validate(
        self, conn: Connection, district: District, request: BatchRequest, found: Sequence[UserError]
    ) -> _ValidatedRequest:
        """Validate all but the population. The result also has the errors that were `found` before."""
        bits = await reason_bits(conn, district.district_id, self._host.reasons)
        cells, errors = named_cells(request.cells, bits)
        errors += found
        scope = None
        try:
            scope = await validate_scope(conn, district, self._host, request.mode, request.scope)
        except Rejected as rejection:
            errors[:0] = rejection.errors
        return _ValidatedRequest(cells, scope, errors)

    async def _require_valid(
        self,
        conn: Connection,
        district: District,
        request: BatchRequest,
        validated: _ValidatedRequest,
        population: Population,
    ) -> None:
        """Raise Rejected with all errors if the request is invalid, selects nobody or names cells not enabled."""
        try:
            messages = await self._unreachable_cells(
                conn, district, request.mode, population, validated.cells
            )
        except Rejected as rejection:
            raise Rejected([*rejection.errors, *validated.errors]) from None
        messages |= await disabled_cells(conn, district.district_id, validated.cells)
        if errors := [*validated.errors, *not_enabled_errors(messages, request.cells)]:
            raise Rejected(errors)

    async def _unreachable_cells(
        self,
        conn: Connection,
        district: District,
        mode: str,
        population: Population,
        cells: Sequence[Cell],
    ) -> dict[Cell, str]:
        """Return a message for each cell that reaches nobody selected (D15). Raises Rejected: NOBODY_SELECTED (D32)."""
        named = {cell.contact_point for cell in cells}
        args = {"district_id": district.district_id, "today": district.today()}
        async with plugin_sql(conn, selection_of(self._host, mode, population)):
            unreachable = statement("batch/plan/unreachable").fill(population=population.sql)
            rows = await fetch(conn, unreachable, **args, contact_points=sorted(named))
            # If one of the contact points is reachable, somebody is selected, and no further statement is needed.
            anybody = len(rows) < len(named) or await fetchval(
                conn, statement("batch/plan/anybody").fill(population=population.sql), **args
            )
        if not anybody:
            raise nobody_selected()
        return unreachable_cells(cells, {ContactPointKind(row["contact_point"]) for row in rows})

    async def _wake_and_wait(self, district_id: int, batch_run_id: int, seconds: float) -> None:
        """Wake the worker and wait for the end of the run."""
        with self._signals.watch(district_id, batch_run_id) as changed:
            self._worker.wake()
            await self._wait(district_id, batch_run_id, changed, seconds)

    async def _wait(
        self, district_id: int, batch_run_id: int, changed: asyncio.Event, seconds: float
    ) -> None:
        """Return when the run has ended or is PLANNED, whichever process works on it, or when the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (left := deadline - loop.time()) > 0:
            await wait_for_signal(changed, min(left, self._poll_seconds))
            # The run is recorded, so returning it unfinished is better than an error.
            with suppress(TimedOut, Unavailable):
                async with self._db.acquire(district_id) as conn:
                    key = {"district_id": district_id, "batch_run_id": batch_run_id}
                    if await fetchval(conn, "batch/run/at_rest", **key):
                        return


def _validate_wait(seconds: int) -> list[UserError]:
    if 0 <= seconds <= MAX_WAIT_SECONDS:
        return []
    message = f"waitSeconds is from 0 to {MAX_WAIT_SECONDS}."
    return [UserError("WAIT_SECONDS_OUT_OF_RANGE", message, ("waitSeconds",))]


async def _record(
    conn: Connection, viewer: Viewer, request: BatchRequest, scope: RecordedScope, cells: Sequence[Cell]
) -> int:
    district_id = viewer.district.district_id
    batch_run_id = await fetchval(
        conn,
        "batch/run/insert",
        district_id=district_id,
        mode=request.mode,
        scope=scope.dump(),
        keep_chosen=request.keep_chosen,
        dry_run=request.dry_run,
        requested_by=viewer.actor,
    )
    await execute(
        conn,
        "batch/run/insert_cells",
        district_id=district_id,
        batch_run_id=batch_run_id,
        contact_points=[cell.contact_point for cell in cells],
        reasons=[cell.reason for cell in cells],
        turn_ons=[cell.set is Setting.ON for cell in cells],
    )
    return int(batch_run_id)
