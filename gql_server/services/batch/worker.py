"""Works the recorded runs: claims one, plans it, applies it, ends it. Several processes may run one each."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from uuid import uuid4

import structlog

from gql_server.db.protocols import Database
from gql_server.db.statements import execute, fetchrow, fetchval
from gql_server.domain.changes import Source
from gql_server.errors import PluginError, Rejected
from gql_server.hooks import RunSummary
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.apply import apply_chunk, finish_run
from gql_server.services.batch.faults import passes
from gql_server.services.batch.plan import plan_run
from gql_server.services.batch.run import LeaseLost, Run
from gql_server.services.changes import tell_changed

_log = structlog.get_logger(__name__)
_UNEXPECTED = "The run stopped because of an error in the server. Its log, at this time, says which."
_RELEASE_SECONDS = 2.0


class BatchWorker:
    """Times are in seconds; `chunk_size` counts the channels of a chunk; `workers`: how many runs at once."""

    def __init__(
        self,
        db: Database,
        host: PluginHost,
        *,
        lease_seconds: float = 30,
        poll_seconds: float = 1,
        chunk_size: int = 10_000,
        workers: int = 2,
    ) -> None:
        self._db = db
        self._host = host
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._chunk_size = chunk_size
        self._workers = workers
        self._recorded = asyncio.Event()
        self._watched: dict[int, list[asyncio.Event]] = {}

    async def run(self) -> None:
        """Work runs until cancelled. Whatever fails, it goes on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            for _ in range(self._workers):
                tasks.create_task(self._work_for_ever())

    def wake(self) -> None:
        """Look for a run now: one was recorded."""
        self._recorded.set()

    @contextmanager
    def watch(self, batch_run_id: int) -> Iterator[asyncio.Event]:
        """Give an event that is set when this worker has ended the run."""
        event = asyncio.Event()
        self._watched.setdefault(batch_run_id, []).append(event)
        try:
            yield event
        finally:
            self._watched[batch_run_id].remove(event)
            if not self._watched[batch_run_id]:
                del self._watched[batch_run_id]

    async def _work_for_ever(self) -> None:
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
        while True:
            self._recorded.clear()
            try:
                worked = await self._work_next(owner)
            except Exception as error:
                _log.warning("batch_work_interrupted", error=type(error).__name__, exc_info=not passes(error))
                await asyncio.sleep(self._poll_seconds)
                continue
            if not worked:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._recorded.wait()

    async def _work_next(self, owner: str) -> bool:
        """Work the next run and return whether there was one. Raises what may pass: the run is claimed anew."""
        async with self._db.transaction() as conn:
            row = await fetchrow(conn, "batch/claim", lease_owner=owner, lease_seconds=self._lease_seconds)
        if row is None:
            return False
        run = Run.from_row(row, owner)
        try:
            await self._work(run)
        except LeaseLost:
            _log.warning("batch_lease_lost", run=run.run_id)
        except (Rejected, PluginError) as error:
            words = [e.message for e in error.errors] if isinstance(error, Rejected) else [str(error)]
            await self._fail(run, words)
        except asyncio.CancelledError:
            await self._release(run)
            raise
        except Exception as error:
            if passes(error):
                raise
            _log.exception("batch_run_failed", run=run.run_id)
            await self._fail(run, [_UNEXPECTED])
        return True

    async def _work(self, run: Run) -> None:
        if run.status == "PLANNING":
            async with self._renewing(run):
                await plan_run(self._db, self._host, run, chunk_size=self._chunk_size)
        while True:
            written = await apply_chunk(self._db, run, lease_seconds=self._lease_seconds)
            if written is None:
                break
            tell_changed(self._host, run.district.code, Source.BATCH, written)
        population = await finish_run(self._db, run, lease_seconds=self._lease_seconds)
        self._tell_ended(run, "DONE", population)
        async with self._db.transaction() as conn:
            await execute(conn, "batch/forget_plan", **run.key)

    async def _fail(self, run: Run, errors: list[str]) -> None:
        async with self._db.transaction() as conn:
            population = await fetchval(conn, "batch/fail", **run.held, errors=errors)
            if population is not None:
                await execute(conn, "batch/forget_plan", **run.key)
        if population is not None:
            self._tell_ended(run, "FAILED", population)

    def _tell_ended(self, run: Run, status: str, population: int) -> None:
        for event in self._watched.get(run.batch_run_id, ()):
            event.set()
        summary = RunSummary(run.run_id, run.mode, status, population)
        for error in self._host.tell_run_finished(summary):
            _log.error("plugin_failed", plugin=error.plugin, error=str(error))

    @asynccontextmanager
    async def _renewing(self, run: Run) -> AsyncIterator[None]:
        """Renew the lease for the length of the block."""
        task = asyncio.create_task(self._renew(run))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _renew(self, run: Run) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            try:
                async with self._db.transaction() as conn:
                    await execute(conn, "batch/renew", **run.held, lease_seconds=self._lease_seconds)
            except Exception as error:
                _log.warning("batch_lease_not_renewed", run=run.run_id, error=type(error).__name__)

    async def _release(self, run: Run) -> None:
        """Let another worker take the run over at once, if that can be said in time."""
        with suppress(Exception):
            async with asyncio.timeout(_RELEASE_SECONDS), self._db.transaction() as conn:
                await execute(conn, "batch/release", **run.held)

    async def _sweep(self) -> None:
        """Remove the plans that a killed worker left behind at the end of their runs."""
        with suppress(Exception):
            async with self._db.transaction() as conn:
                await execute(conn, "batch/sweep")
