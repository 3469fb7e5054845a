"""Works the recorded runs: claims one, plans it, applies it, ends it. Several processes may run one each."""

import asyncio
import os
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import structlog

from gql_server.db.protocols import Database, Row
from gql_server.db.statements import execute, fetchrow, fetchval
from gql_server.domain.ids import IdKind, parse_id
from gql_server.errors import PluginError, Rejected, place
from gql_server.hooks import RunSummary
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.apply import apply_chunk, finish_run, source
from gql_server.services.batch.faults import passes, sqlstate
from gql_server.services.batch.idempotency import VALID_SECONDS
from gql_server.services.batch.plan import PLAN_MAX_AGE, plan_run
from gql_server.services.batch.rules import CHECK_SECONDS
from gql_server.services.batch.run import LEASE_SECONDS, LeaseLost, Run
from gql_server.services.changes import tell_changed

_log = structlog.get_logger(__name__)
_UNEXPECTED = "The run stopped because of an error in the server. Its log, at this time, says which."
_RELEASE_SECONDS = 2.0
_RENEW_SECONDS = 2.0
_SWEEP_SECONDS = 3600.0
_PLAN_DAYS = 30
_TAKEN = "23505"


class BatchWorker:
    """Times are in seconds; `chunk_size` counts the channels of a chunk; `workers`: how many runs at once.

    `check_seconds`: how long a rule in Python may take over one chunk of candidates; `plan_max_age`: from what age
    a plan that is applied is reported as outdated.
    """

    def __init__(
        self,
        db: Database,
        host: PluginHost,
        *,
        lease_seconds: float = LEASE_SECONDS,
        poll_seconds: float = 1,
        chunk_size: int = 10_000,
        workers: int = 2,
        check_seconds: float = CHECK_SECONDS,
        plan_max_age: float = PLAN_MAX_AGE,
    ) -> None:
        self._db = db
        self._host = host
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._chunk_size = chunk_size
        self._workers = workers
        self._check_seconds = check_seconds
        self._plan_max_age = plan_max_age
        self._recorded = asyncio.Event()
        self._watched: dict[int, list[asyncio.Event]] = {}

    async def run(self) -> None:
        """Work runs until cancelled. Whatever fails, it goes on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep_for_ever())
            for _ in range(self._workers):
                tasks.create_task(self._work_for_ever())

    def wake(self) -> None:
        """Look for a run now: one was recorded."""
        self._recorded.set()

    @contextmanager
    def watch(self, batch_run_id: int) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever this worker has moved the run on. Clear it to hear of the next time."""
        event = asyncio.Event()
        self._watched.setdefault(batch_run_id, []).append(event)
        try:
            yield event
        finally:
            self._watched[batch_run_id].remove(event)
            if not self._watched[batch_run_id]:
                del self._watched[batch_run_id]

    def tell_ended(self, run: RunSummary) -> None:
        """Tell whoever watches, and the plug-ins, that a run has ended."""
        self._tell_moved(parse_id(IdKind.BATCH_RUN, run.run_id))
        for error in self._host.tell_run_finished(run):
            _log.error("plugin_failed", plugin=error.plugin, error=str(error))

    async def _work_for_ever(self) -> None:
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
        while True:
            self._recorded.clear()
            try:
                worked = await self._work_next(owner)
            except Exception as error:
                _log.warning("batch_work_interrupted", error=type(error).__name__, where=place(error))
                await asyncio.sleep(self._poll_seconds)
                continue
            if not worked:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._recorded.wait()

    async def _work_next(self, owner: str) -> bool:
        """Work the next run and return whether there was one. Raises what may pass: the run is claimed anew."""
        row = await self._claim(owner)
        if row is None:
            return False
        run = Run.from_row(row, owner)
        try:
            await self._work(run)
        except LeaseLost:
            _log.info("batch_run_left", run=run.run_id)
        except (Rejected, PluginError) as error:
            words = [e.message for e in error.errors] if isinstance(error, Rejected) else [str(error)]
            cause = error.__cause__ or error
            _log.warning("batch_run_failed", run=run.run_id, errors=words, where=place(cause))
            await self._fail(run, words)
        except asyncio.CancelledError:
            await self._release(run)
            raise
        except Exception as error:
            if passes(error):
                raise
            _log.error("batch_run_failed", run=run.run_id, error=type(error).__name__, where=place(error))
            await self._fail(run, [_UNEXPECTED])
        return True

    async def _claim(self, owner: str) -> Row | None:
        """Return the run to work now, if there is one. Of two workers who take a district's turn at once one has it."""
        try:
            async with self._db.transaction() as conn:
                return await fetchrow(
                    conn, "batch/claim", lease_owner=owner, lease_seconds=self._lease_seconds
                )
        except Exception as error:
            if sqlstate(error) == _TAKEN:
                return None
            raise

    async def _work(self, run: Run) -> None:
        self._tell_moved(run.batch_run_id)
        if run.status == "PLANNING":
            await self._while_renewing(run, self._plan(run))
            self._tell_moved(run.batch_run_id)
            if run.plan_only:
                return
        while True:
            written = await apply_chunk(self._db, run, lease_seconds=self._lease_seconds)
            if written is None:
                break
            self._tell_moved(run.batch_run_id)
            tell_changed(self._host, run.district.code, source(run), written)
        ended = await finish_run(self._db, run)
        self.tell_ended(RunSummary(run.run_id, run.mode, "DONE", ended.population))
        if ended.reverted is not None:
            self.tell_ended(RunSummary(ended.reverted, run.mode, "REVERTED", ended.population))
        async with self._db.transaction() as conn:
            await execute(conn, "batch/forget_plan", **run.key)

    async def _plan(self, run: Run) -> None:
        await plan_run(
            self._db,
            self._host,
            run,
            chunk_size=self._chunk_size,
            lease_seconds=self._lease_seconds,
            check_seconds=self._check_seconds,
            max_age=self._plan_max_age,
        )

    async def _fail(self, run: Run, errors: list[str]) -> None:
        async with self._db.transaction() as conn:
            population = await fetchval(conn, "batch/fail", **run.held, errors=errors)
            if population is not None:
                await execute(conn, "batch/forget_plan", **run.key)
                await execute(conn, "batch/stand", **run.key)
        if population is not None:
            self.tell_ended(RunSummary(run.run_id, run.mode, "FAILED", population))

    def _tell_moved(self, batch_run_id: int | None) -> None:
        for event in self._watched.get(batch_run_id or 0, ()):
            event.set()

    async def _while_renewing(self, run: Run, work: Coroutine[None, None, None]) -> None:
        """Do the work while the lease is renewed. Raises LeaseLost as soon as it is found lost."""
        tasks = [asyncio.create_task(work), asyncio.create_task(self._renew(run))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0] not in done:
                raise LeaseLost
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        tasks[0].result()

    async def _renew(self, run: Run) -> None:
        """Renew the lease until it is lost."""
        held = True
        while held:
            await asyncio.sleep(min(self._lease_seconds / 3, _RENEW_SECONDS))
            try:
                async with self._db.transaction() as conn:
                    lease = await fetchval(conn, "batch/renew", **run.held, lease_seconds=self._lease_seconds)
                    held = lease is not None
            except Exception as error:
                _log.warning("batch_lease_not_renewed", run=run.run_id, error=type(error).__name__)

    async def _release(self, run: Run) -> None:
        """Let another worker take the run over at once, if that can be said in time."""
        with suppress(Exception):
            async with asyncio.timeout(_RELEASE_SECONDS), self._db.transaction() as conn:
                await execute(conn, "batch/release", **run.held)

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self._sweep()
            except Exception as error:
                _log.warning("batch_sweep_failed", error=type(error).__name__, where=place(error))
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _sweep(self) -> None:
        """Remove what ended runs and a killed worker left, plans that nobody applies, and old idempotency keys."""
        words = f"The plan was not applied within {_PLAN_DAYS} days. Make a new one."
        async with self._db.transaction() as conn:
            await execute(conn, "batch/sweep_plans", kept_seconds=_PLAN_DAYS * 86400.0, error=words)
            await execute(conn, "batch/sweep")
            await execute(conn, "batch/sweep_keys", valid_seconds=VALID_SECONDS)
