"""Takes a batch, and what becomes of its run: checks, records, and waits for a while (D11-D16, D29)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetch, fetchval, statement
from gql_server.domain.batch import Cell, Setting, named_cells
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.errors import Forbidden, Rejected, TimedOut, Unavailable, UserError
from gql_server.hooks import Population
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.cell_availability import not_enabled, out_of_reach, switched_off
from gql_server.services.batch.idempotency import claim_idempotency_key, find_run, key_errors
from gql_server.services.batch.redact import logging_failures
from gql_server.services.batch.request import MAX_WAIT_SECONDS, WAIT_SECONDS, BatchRequest
from gql_server.services.batch.scope import KeptScope, check_scope, mode_scope, nobody_selected
from gql_server.services.batch.signals import RunSignals, wait_for_signal
from gql_server.services.batch.states import begin_revert, cancel_run, queue_plan
from gql_server.services.batch.watch import POLL_SECONDS, RunState, watch_run
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.districts import reason_bits
from gql_server.services.rules.plugin_sql import plugin_sql, selection_of


class _KeyTaken(Exception):
    """Another call with the same idempotency key was faster; its run is committed."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that has been read: the cells to set, the scope if it is one, and what is wrong so far."""

    cells: list[Cell]
    scope: KeptScope | None
    errors: list[UserError]


class BatchService:
    """Records runs, which the worker works, and watches them; `poll_seconds`: see POLL_SECONDS."""

    def __init__(
        self,
        db: Database,
        host: PluginHost,
        worker: BatchWorker,
        signals: RunSignals,
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._db = db
        self._host = host
        self._worker = worker
        self._signals = signals
        self._poll_seconds = poll_seconds

    async def submit(self, viewer: Viewer, request: BatchRequest, wait_seconds: int) -> int:
        """Record a run, wait up to `wait_seconds` for its end, and return its number.

        Raises Forbidden to all but administrators, PluginError, and Rejected with all problems at once:
        UNKNOWN_MODE, UNKNOWN_REASON, REASON_NOT_SET_UP, CONFLICTING_CELLS, NO_CELLS, TOO_MANY_CELLS, UNKNOWN_SCHOOL,
        TOO_MANY_SCHOOLS, UNKNOWN_FILTER, WRONG_FILTER_KIND, INVALID_CRITERIA, FILTER_REQUIRED, UNKNOWN_GRADE,
        INVALID_GRADE, TOO_MANY_GRADES, GRADES_NOT_ALLOWED, SCHOOL_YEAR_NOT_ALLOWED, WAIT_SECONDS_OUT_OF_RANGE,
        INVALID_IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_REUSED; then NOBODY_SELECTED (D32), or else CELL_NOT_ENABLED (D15).
        A key that stands for a run answers that run, whether or not the request would still be taken.
        """
        _hold_admin(viewer)
        limits = _wait_errors(wait_seconds) + key_errors(request.idempotency_key)
        batch_run_id = None
        async with logging_failures(self._db, viewer.district):
            while batch_run_id is None:
                with suppress(_KeyTaken):
                    batch_run_id = await self._submit(viewer, request, limits)
        await self._watch(viewer.district.district_id, batch_run_id, wait_seconds)
        return batch_run_id

    async def apply(self, viewer: Viewer, run_id: str, wait_seconds: int = WAIT_SECONDS) -> int:
        """Let a plan be applied when its turn comes (D21), wait for its end, and return the run's number.

        Raises Forbidden, and Rejected: UNKNOWN_RUN, WRONG_STATE, WAIT_SECONDS_OUT_OF_RANGE.
        """
        return await self._begin(queue_plan, viewer, run_id, wait_seconds)

    async def cancel(self, viewer: Viewer, run_id: str) -> int:
        """Cancel a run and return its number; one that applies stops after its chunk and is undone by a revert.

        Raises Forbidden, and Rejected: UNKNOWN_RUN, WRONG_STATE.
        """
        async with self._changing(viewer) as conn:
            batch_run_id, ended = await cancel_run(conn, viewer, run_id)
        if ended is None:
            self._worker.wake()
        else:
            self._worker.tell_ended(ended)
        return batch_run_id

    async def revert(self, viewer: Viewer, run_id: str, wait_seconds: int = WAIT_SECONDS) -> int:
        """Undo a run by a run of its own (D29), wait for its end, and return the number of the new run.

        Raises Forbidden, and Rejected: UNKNOWN_RUN, WRONG_STATE, WAIT_SECONDS_OUT_OF_RANGE.
        """
        return await self._begin(begin_revert, viewer, run_id, wait_seconds)

    def watch(self, viewer: Viewer, run_id: str) -> AsyncIterator[RunState]:
        """Return the states of a run until it has ended: see `watch_run`."""
        return watch_run(self._db, viewer, run_id, self._signals, poll_seconds=self._poll_seconds)

    async def _begin(
        self,
        change: Callable[[Connection, Viewer, str], Awaitable[int]],
        viewer: Viewer,
        run_id: str,
        wait_seconds: int,
    ) -> int:
        """Change a run's state, so that there is something to work, and wait for the end of that."""
        async with self._changing(viewer, wait_seconds) as conn:
            batch_run_id = await change(conn, viewer, run_id)
        await self._watch(viewer.district.district_id, batch_run_id, wait_seconds)
        return batch_run_id

    @asynccontextmanager
    async def _changing(self, viewer: Viewer, wait_seconds: int = 0) -> AsyncIterator[Connection]:
        _hold_admin(viewer)
        if errors := _wait_errors(wait_seconds):
            raise Rejected(errors)
        async with self._db.transaction(viewer.district.district_id) as conn:
            yield conn

    async def _submit(self, viewer: Viewer, request: BatchRequest, errors: Sequence[UserError]) -> int:
        """Record a run, or find that of the key. Raises Rejected, with `errors` too; and _KeyTaken: try again."""
        district = viewer.district
        async with self._db.acquire(district.district_id) as conn:
            if not errors:
                known = await find_run(conn, district.district_id, request)
                if known is not None:
                    return known
            asked = await self._understand(conn, district, request, errors)
        if asked.scope is None:
            raise Rejected(asked.errors)
        # The plug-in may take its time: meanwhile no connection is held.
        scope = mode_scope(district, asked.scope, request.mode, self._host)
        population = await self._host.calls.population(request.mode, scope)
        async with self._db.transaction(district.district_id) as conn:
            await self._check(conn, district, request, asked, population)
            batch_run_id = await _record(conn, viewer, request, asked.scope, asked.cells)
            if not await claim_idempotency_key(conn, district.district_id, request, batch_run_id):
                raise _KeyTaken
        return batch_run_id

    async def _understand(
        self, conn: Connection, district: District, request: BatchRequest, found: Sequence[UserError]
    ) -> _Asked:
        bits = await reason_bits(conn, district.district_id, self._host.reasons)
        cells, errors = named_cells(request.cells, bits)
        errors += found
        scope = None
        try:
            scope = await check_scope(conn, district, self._host, request.mode, request.scope)
        except Rejected as rejection:
            errors[:0] = rejection.errors
        return _Asked(cells, scope, errors)

    async def _check(
        self,
        conn: Connection,
        district: District,
        request: BatchRequest,
        asked: _Asked,
        population: Population,
    ) -> None:
        """Raise Rejected, with what was found before, where the run may not be recorded."""
        try:
            words = await self._out_of_reach(conn, district, request.mode, population, asked.cells)
        except Rejected as rejection:
            raise Rejected([*rejection.errors, *asked.errors]) from None
        words |= await switched_off(conn, district.district_id, asked.cells)
        if errors := [*asked.errors, *not_enabled(words, request.cells)]:
            raise Rejected(errors)

    async def _out_of_reach(
        self,
        conn: Connection,
        district: District,
        mode: str,
        population: Population,
        cells: Sequence[Cell],
    ) -> dict[Cell, str]:
        """Return words for each cell that reaches nobody selected (D15). Raises Rejected: NOBODY_SELECTED (D32)."""
        named = {cell.contact_point for cell in cells}
        args = {"district_id": district.district_id, "today": district.today()}
        async with plugin_sql(conn, selection_of(self._host, mode, population)):
            unreachable = statement("batch/plan/unreachable").fill(population=population.sql)
            rows = await fetch(conn, unreachable, **args, contact_points=sorted(named))
            # Somebody has one of the contact points: somebody is there.
            anybody = len(rows) < len(named) or await fetchval(
                conn, statement("batch/plan/anybody").fill(population=population.sql), **args
            )
        if not anybody:
            raise nobody_selected()
        return out_of_reach(cells, {ContactPointKind(row["contact_point"]) for row in rows})

    async def _watch(self, district_id: int, batch_run_id: int, seconds: float) -> None:
        """Have the run worked, and wait for it."""
        with self._signals.watch(district_id, batch_run_id) as moved:
            self._worker.wake()
            await self._wait(district_id, batch_run_id, moved, seconds)

    async def _wait(self, district_id: int, batch_run_id: int, moved: asyncio.Event, seconds: float) -> None:
        """Return when the run has ended or is PLANNED, here or in another process, or the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (left := deadline - loop.time()) > 0:
            await wait_for_signal(moved, min(left, self._poll_seconds))
            # The run is recorded: an answer that says it still runs is better than an error.
            with suppress(TimedOut, Unavailable):
                async with self._db.acquire(district_id) as conn:
                    key = {"district_id": district_id, "batch_run_id": batch_run_id}
                    if await fetchval(conn, "batch/run/ended", **key):
                        return


def _hold_admin(viewer: Viewer) -> None:
    if viewer.role is not Role.ADMIN:
        raise Forbidden("Only an administrator may set preferences for many people.")


def _wait_errors(seconds: int) -> list[UserError]:
    if 0 <= seconds <= MAX_WAIT_SECONDS:
        return []
    limits = f"waitSeconds is from 0 to {MAX_WAIT_SECONDS}."
    return [UserError("WAIT_SECONDS_OUT_OF_RANGE", limits, ("waitSeconds",))]


async def _record(
    conn: Connection, viewer: Viewer, request: BatchRequest, scope: KeptScope, cells: Sequence[Cell]
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
