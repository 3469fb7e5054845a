"""Works the recorded runs: claims one, plans it, applies it, ends it. Several processes may run one each."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar
from uuid import uuid4

import structlog

from gql_server.db.database_errors import error_details, is_transient, sqlstate
from gql_server.db.protocols import Database, Row
from gql_server.db.statements import execute, fetchrow, fetchval
from gql_server.errors import Busy, PluginError, Rejected, UserError, error_location, error_location_in_plugin
from gql_server.hooks import RunSummary
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.apply import apply_chunk, finish_run, source
from gql_server.services.batch.idempotency import VALID_SECONDS
from gql_server.services.batch.plan import PLAN_MAX_AGE, plan_run
from gql_server.services.batch.progress import PlanProgress
from gql_server.services.batch.redact import in_words
from gql_server.services.batch.run import LEASE_SECONDS, LeaseLost, Run
from gql_server.services.batch.signals import CHANNEL, notify_moved
from gql_server.services.batch.states import restore_status
from gql_server.services.changes import tell_changed
from gql_server.services.rules.limits import CHECK_SECONDS, RuleLimits

_log = structlog.get_logger(__name__)
_UNEXPECTED = "The run stopped because of an error in the server. Its log, at this time, says which."
_RELEASE_SECONDS = 2.0
_RENEW_SECONDS = 2.0
_PROGRESS_SECONDS = 0.2
_LONGEST_PAUSE = 30.0
"""How long a worker rests, at most, after failures in a row; each time twice as long."""
_SWEEP_SECONDS = 3600.0
_PLAN_DAYS = 30
_TAKEN = "23505"
_MET_OTHERS = ("40", "53", "55")
"""The classes of errors that end no connection: a deadlock, a lock not given, no room. They, and Busy, do not count."""
MOST_CLAIMS = 6
"""How often a run is begun without getting further: once, and then again five times."""
_WORN_OUT = (
    f"The run was begun {MOST_CLAIMS} times, and each time its server or its connection to the database was gone before"
    " the run got further. A plug-in may be the cause. Find it in the servers' logs, then submit the batch again."
)
T = TypeVar("T")


def _whose(run: Run | None) -> dict[str, object]:
    return {} if run is None else {"run": run.run_id, "district": run.district.code}


class BatchWorker:
    """Times are in seconds; `chunk_size` counts the channels of a chunk; `workers`: how many runs at once.

    `check_seconds`: how long a rule in Python may take over one chunk of candidates; `statement_seconds`: how long a
    plug-in's SQL may take; `plan_max_age`: from what age a plan that is applied is reported as outdated.
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
        statement_seconds: float = 60,
        plan_max_age: float = PLAN_MAX_AGE,
    ) -> None:
        self._db = db
        self._host = host
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._chunk_size = chunk_size
        self._workers = workers
        self._limits = RuleLimits(check_seconds, statement_seconds)
        self._plan_max_age = plan_max_age
        self._recorded = asyncio.Event()

    async def run(self) -> None:
        """Work runs until cancelled. Whatever fails, it goes on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep_for_ever())
            for _ in range(self._workers):
                tasks.create_task(self._work_for_ever())

    def wake(self) -> None:
        """Look for a run now: one was recorded."""
        self._recorded.set()

    def tell_ended(self, run: RunSummary) -> None:
        """Tell the plug-ins that a run has ended."""
        self._host.calls.notify_run_finished(run)

    async def _work_for_ever(self) -> None:
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
        pause = self._poll_seconds
        while True:
            self._recorded.clear()
            run = None
            try:
                row = await self._claim(owner)
                if row is not None:
                    run = Run.from_row(row, owner)
                    await self._work_claimed(run)
            except Exception as error:
                _log.warning("batch_work_interrupted", **_whose(run), **error_details(error), again_in=pause)
                await asyncio.sleep(pause)
                pause = max(self._poll_seconds, min(2 * pause, _LONGEST_PAUSE))
                continue
            pause = self._poll_seconds
            if run is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._recorded.wait()

    async def _work_claimed(self, run: Run) -> None:
        """Work a run. Raises what may pass: the run is claimed anew."""
        try:
            if run.claims > MOST_CLAIMS:
                raise Rejected([UserError("WORN_OUT", _WORN_OUT)])
            await self._work(run)
        except LeaseLost:
            _log.info("batch_run_left", run=run.run_id)
            await self._forget_plan(run)
        except (Rejected, PluginError) as error:
            words = await self._words(run, error)
            cause = error.__cause__ or error
            _log.warning(
                "batch_run_failed", run=run.run_id, errors=words, where=error_location_in_plugin(cause)
            )
            await self._fail(run, words)
        except asyncio.CancelledError:
            await self._release(run)
            raise
        except Exception as error:
            if is_transient(error):
                if isinstance(error, Busy) or sqlstate(error).startswith(_MET_OTHERS):
                    await self._release(run)
                raise
            _log.error("batch_run_failed", **_whose(run), **error_details(error))
            await self._fail(run, [_UNEXPECTED])

    async def _words(self, run: Run, error: Rejected | PluginError) -> list[str]:
        """Return why a run has failed: a plug-in's exception in its own words, but for those about people."""
        if isinstance(error, Rejected):
            return [each.message for each in error.errors]
        return [str(await in_words(self._db, run.district.district_id, error))]

    async def _claim(self, owner: str) -> Row | None:
        """Return the run to work now, if there is one. Of two workers who take a district's turn at once one has it."""
        try:
            async with self._db.transaction() as conn:
                row = await fetchrow(
                    conn, "batch/run/claim", lease_owner=owner, lease_seconds=self._lease_seconds
                )
                if row is not None:
                    await notify_moved(conn, district_id=row["district_id"], batch_run_id=row["batch_run_id"])
                return row
        except Exception as error:
            if sqlstate(error) == _TAKEN:
                return None
            raise

    async def _work(self, run: Run) -> None:
        if run.status == "PLANNING":
            await self._patiently(run, lambda: self._plan_while_renewing(run))
            if run.plan_only:
                return
        chunk = partial(apply_chunk, self._db, run, lease_seconds=self._lease_seconds)
        while True:
            written = await self._patiently(run, chunk)
            if written is None:
                break
            tell_changed(self._host, run.district.code, source(run), written)
        ended = await self._patiently(run, lambda: finish_run(self._db, run))
        self.tell_ended(run.summary("DONE", ended.population))
        if ended.reverted is not None:
            self.tell_ended(run.summary("REVERTED", ended.population, run_id=ended.reverted))
        await self._forget_plan(run)

    async def _patiently(self, run: Run, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step of a run, again where it could not have its locks in time; meanwhile keep the lease.

        Raises LeaseLost.
        """
        while True:
            try:
                return await step()
            except Busy as error:
                _log.warning("batch_run_waits", run=run.run_id, error=str(error), sqlstate=sqlstate(error))
            await asyncio.sleep(self._poll_seconds)
            if not await self._write_progress(run, PlanProgress().noted):
                raise LeaseLost

    async def _forget_plan(self, run: Run) -> None:
        """Remove the plan of a run that has ended."""
        async with self._db.transaction(run.district.district_id) as conn:
            await execute(conn, "batch/housekeeping/remove_plan", **run.key)

    async def _plan(self, run: Run, progress: PlanProgress) -> None:
        await plan_run(
            self._db,
            self._host,
            run,
            chunk_size=self._chunk_size,
            lease_seconds=self._lease_seconds,
            limits=self._limits,
            max_age=self._plan_max_age,
            progress=progress,
        )

    async def _fail(self, run: Run, errors: list[str]) -> None:
        async with self._db.transaction(run.district.district_id) as conn:
            population = await fetchval(conn, "batch/run/fail", **run.held, errors=errors)
            if population is not None:
                await execute(conn, "batch/housekeeping/remove_plan", **run.key)
                await restore_status(conn, run.key, run.reverts)
                await notify_moved(conn, **run.key)
        if population is not None:
            self.tell_ended(run.summary("FAILED", population))

    async def _plan_while_renewing(self, run: Run) -> None:
        """Plan the run while its lease is renewed. Raises LeaseLost as soon as it is found lost."""
        progress = PlanProgress()
        tasks = [
            asyncio.create_task(self._plan(run, progress)),
            asyncio.create_task(self._renew(run, progress)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0] not in done:
                raise LeaseLost
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        tasks[0].result()

    async def _renew(self, run: Run, progress: PlanProgress) -> None:
        """Renew the lease until it is lost, at once when the plan has got further, and write down how far."""
        renew_seconds = min(self._lease_seconds / 3, _RENEW_SECONDS)
        clock = asyncio.get_running_loop().time
        renewed, written, held = clock(), progress.noted, True
        while held:
            await asyncio.sleep(min(renew_seconds, _PROGRESS_SECONDS))
            noted = progress.noted
            if noted == written and clock() < renewed + renew_seconds:
                continue
            try:
                held = await self._write_progress(run, noted)
            except Exception as error:
                _log.warning("batch_lease_not_renewed", run=run.run_id, error=type(error).__name__)
            else:
                renewed, written = clock(), noted

    async def _write_progress(self, run: Run, noted: dict[str, object]) -> bool:
        """Renew the lease and write down how far the plan is. Return whether the lease is still held."""
        async with self._db.acquire() as conn:
            lease = {"lease_seconds": self._lease_seconds, "channel": CHANNEL}
            return await fetchval(conn, "batch/run/record_planning", **run.held, **lease, **noted) is not None

    async def _release(self, run: Run) -> None:
        """Let another worker take the run over at once, if that can be said in time."""
        with suppress(Exception):
            async with asyncio.timeout(_RELEASE_SECONDS), self._db.transaction() as conn:
                await execute(conn, "batch/run/release", **run.held)
                await notify_moved(conn, **run.key)

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self._sweep()
            except Exception as error:
                _log.warning("batch_sweep_failed", error=type(error).__name__, where=error_location(error))
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _sweep(self) -> None:
        """Remove what ended runs and a killed worker left, plans that nobody applies, and old idempotency keys."""
        words = f"The plan was not applied within {_PLAN_DAYS} days. Make a new one."
        async with self._db.transaction() as conn:
            await execute(
                conn, "batch/housekeeping/cancel_old_plans", kept_seconds=_PLAN_DAYS * 86400.0, error=words
            )
            await execute(conn, "batch/housekeeping/remove_plans")
            await execute(conn, "batch/housekeeping/remove_old_keys", valid_seconds=VALID_SECONDS)
