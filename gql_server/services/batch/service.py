"""Takes a batch: checks all of the request, records a run, and waits for it for a while (D11-D16)."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetch, fetchval, statement
from gql_server.domain.batch import Cell, Setting, named_cells
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.errors import Forbidden, Rejected, Unavailable, UserError
from gql_server.hooks import Scope
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.enabled import not_enabled, out_of_reach, switched_off
from gql_server.services.batch.request import BatchRequest
from gql_server.services.batch.rules import blaming
from gql_server.services.batch.scope import dump_scope, resolve_scope
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.districts import reason_bits

MAX_WAIT_SECONDS = 60
_POLL_SECONDS = 0.5


class BatchService:
    """Records runs; the worker works them."""

    def __init__(self, db: Database, host: PluginHost, worker: BatchWorker) -> None:
        self._db = db
        self._host = host
        self._worker = worker

    async def submit(self, viewer: Viewer, request: BatchRequest, wait_seconds: int) -> int:
        """Record a run, wait up to `wait_seconds` for its end, and return its number.

        Raises Forbidden to all but administrators, PluginError, and Rejected with all problems at once:
        UNKNOWN_MODE, UNKNOWN_REASON, CONFLICTING_CELLS, NO_CELLS, UNKNOWN_SCHOOL, UNKNOWN_FILTER,
        WRONG_FILTER_KIND, FILTER_REQUIRED, GRADES_NOT_ALLOWED, WAIT_SECONDS_OUT_OF_RANGE, and
        CELL_NOT_ENABLED (D15).
        """
        if viewer.role is not Role.ADMIN:
            raise Forbidden("Only an administrator may set preferences for many people.")
        async with self._db.transaction() as conn:
            cells = await self._check(conn, viewer.district, request, wait_seconds)
            batch_run_id = await _record(conn, viewer, request, cells)
        with self._worker.watch(batch_run_id) as ended:
            self._worker.wake()
            await self._wait(viewer.district.district_id, batch_run_id, ended, wait_seconds)
        return batch_run_id

    async def _check(
        self, conn: Connection, district: District, request: BatchRequest, wait_seconds: int
    ) -> list[Cell]:
        """Return the cells to set. Raises Rejected."""
        cells, errors = named_cells(request.cells, await reason_bits(conn, district.district_id))
        if not 0 <= wait_seconds <= MAX_WAIT_SECONDS:
            limits = f"waitSeconds is from 0 to {MAX_WAIT_SECONDS}."
            errors.append(UserError("WAIT_SECONDS_OUT_OF_RANGE", limits, ("waitSeconds",)))
        words: dict[Cell, str] = {}
        try:
            scope = await resolve_scope(conn, district, self._host, request.mode, request.scope)
        except Rejected as rejection:
            errors.extend(rejection.errors)
        else:
            unreachable = await self._unreachable(conn, district, request.mode, scope, cells)
            words |= out_of_reach(cells, unreachable)
        words |= await switched_off(conn, district.district_id, cells)
        errors += not_enabled(words, request.cells)
        if errors:
            raise Rejected(errors)
        return cells

    async def _unreachable(
        self, conn: Connection, district: District, mode: str, scope: Scope, cells: Sequence[Cell]
    ) -> set[ContactPointKind]:
        """Return the contact points named that nobody selected has on record (D15)."""
        population = self._host.population(mode, scope)
        with blaming(self._host.modes[mode].plugin, f"the selection of the mode {mode!r}"):
            rows = await fetch(
                conn,
                statement("batch/unreachable").fill(population=population.sql),
                district_id=district.district_id,
                today=district.today(),
                contact_points=sorted({cell.contact_point for cell in cells}),
            )
        return {ContactPointKind(row["contact_point"]) for row in rows}

    async def _wait(self, district_id: int, batch_run_id: int, ended: asyncio.Event, seconds: float) -> None:
        """Return when the run has ended, here or in another process, or the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (left := deadline - loop.time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, _POLL_SECONDS)):
                    await ended.wait()
                    return
            # The run is recorded: an answer that says it still runs is better than an error.
            with suppress(Unavailable):
                async with self._db.acquire() as conn:
                    if await fetchval(
                        conn, "batch/ended", district_id=district_id, batch_run_id=batch_run_id
                    ):
                        return


async def _record(conn: Connection, viewer: Viewer, request: BatchRequest, cells: Sequence[Cell]) -> int:
    district_id = viewer.district.district_id
    batch_run_id = await fetchval(
        conn,
        "batch/insert_run",
        district_id=district_id,
        mode=request.mode,
        scope=dump_scope(request.scope),
        keep_chosen=request.keep_chosen,
        requested_by=viewer.actor,
    )
    await execute(
        conn,
        "batch/insert_cells",
        district_id=district_id,
        batch_run_id=batch_run_id,
        contact_points=[cell.contact_point for cell in cells],
        reasons=[cell.reason for cell in cells],
        turn_ons=[cell.set is Setting.ON for cell in cells],
    )
    return int(batch_run_id)
