"""Executes the recorded runs: claims one, plans it, applies it and finishes it. Each server process has a worker."""

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
from gql_server.db.migrations import migrations
from gql_server.db.protocols import Database, Row
from gql_server.db.statements import execute, fetchrow, fetchval
from gql_server.domain import defaults
from gql_server.errors import Busy, PluginError, Rejected, UserError, error_location, error_location_in_plugin
from gql_server.hooks import RunSummary
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.apply import apply_chunk, change_source, finish_run
from gql_server.services.batch.idempotency import VALID_SECONDS
from gql_server.services.batch.plan import plan_run
from gql_server.services.batch.progress import PlanProgress
from gql_server.services.batch.redact import with_reason
from gql_server.services.batch.run import LeaseLost, Run
from gql_server.services.batch.signals import CHANNEL, notify_run_changed
from gql_server.services.batch.states import restore_status
from gql_server.services.changes import notify_preferences_changed
from gql_server.services.rules.limits import RuleLimits

_log = structlog.get_logger(__name__)
_UNEXPECTED = "The run failed because of an error in the server. The server's log says which."
_RELEASE_SECONDS = 2.0
_RENEW_SECONDS = 2.0
_PROGRESS_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 30.0
"""The longest pause after failures in a row. It doubles with each failure."""
_CLEAN_UP_SECONDS = 3600.0
_PLAN_DAYS = 30
_UNIQUE_VIOLATION = "23505"
_CONTENTION = ("40", "53", "55")
"""Classes of errors that another transaction causes: a deadlock, no resources, a lock not granted.

After one of them, or Busy, the run is released, so that the claim does not count towards MAX_CLAIMS.
"""
MAX_CLAIMS = 6
"""How often a run may be claimed without making progress."""
_WORN_OUT = (
    f"The run was started {MAX_CLAIMS} times. Each time its server or its connection to the database was lost before"
    " the run made progress. A plug-in may be the cause. Find it in the servers' logs, then submit the batch again."
)
T = TypeVar("T")


def _log_fields(run: Run | None) -> dict[str, object]:
    return {} if run is None else {"run": run.run_id, "district": run.district.code}


class BatchWorker:
    """Executes runs of all districts, one run of a district at a time (D21). Times are in seconds.

    `chunk_size`: channels that are written in one transaction. `workers`: runs that are executed at the same time.
    `check_seconds`: the limit for a rule in Python and one chunk of candidates. `statement_seconds`: the limit for a
    plug-in's SQL. `plan_max_age`: a plan that is older when it is applied is reported as outdated.
    """

    def __init__(
        self,
        db: Database,
        host: PluginHost,
        *,
        lease_seconds: float = defaults.LEASE_SECONDS,
        poll_seconds: float = defaults.BATCH_POLL_SECONDS,
        chunk_size: int = defaults.CHUNK_SIZE,
        workers: int = defaults.BATCH_WORKERS,
        check_seconds: float = defaults.CHECK_SECONDS,
        statement_seconds: float = defaults.STATEMENT_SECONDS,
        plan_max_age: float = defaults.PLAN_MAX_AGE,
    ) -> None:
        self._db = db
        self._host = host
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._chunk_size = chunk_size
        self._workers = workers
        self._migrations = [migration.name for migration in migrations()]
        self._limits = RuleLimits(check_seconds, statement_seconds)
        self._plan_max_age = plan_max_age
        self._recorded = asyncio.Event()

    async def run(self) -> None:
        """Execute runs until cancelled. No failure ends the loop."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._clean_up_periodically())
            for _ in range(self._workers):
                tasks.create_task(self._execute_runs())

    def wake(self) -> None:
        """Look for a run at once, because one was recorded."""
        self._recorded.set()

    def notify_run_finished(self, run: RunSummary) -> None:
        """Notify the plug-ins that a run has ended."""
        self._host.calls.notify_run_finished(run)

    async def _execute_runs(self) -> None:
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
        pause = self._poll_seconds
        while True:
            self._recorded.clear()
            run = None
            try:
                row = await self._claim(owner)
                if row is not None:
                    run = Run.from_row(row, owner)
                    await self._execute_or_fail(run)
            except Exception as error:
                _log.warning(
                    "batch_worker_interrupted", **_log_fields(run), **error_details(error), again_in=pause
                )
                await asyncio.sleep(pause)
                pause = max(self._poll_seconds, min(2 * pause, _MAX_PAUSE_SECONDS))
                continue
            pause = self._poll_seconds
            if run is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._recorded.wait()

    async def _execute_or_fail(self, run: Run) -> None:
        """Execute a run, and set it to FAILED on an error. A transient error is raised: the run is claimed again."""
        try:
            if run.claims > MAX_CLAIMS:
                raise Rejected([UserError("WORN_OUT", _WORN_OUT)])
            await self._execute(run)
        except LeaseLost:
            _log.info("batch_lease_lost", run=run.run_id)
            await self._delete_plan(run)
        except (Rejected, PluginError) as error:
            messages = await self._failure_messages(run, error)
            cause = error.__cause__ or error
            _log.warning(
                "batch_run_failed", run=run.run_id, errors=messages, where=error_location_in_plugin(cause)
            )
            await self._fail(run, messages)
        except asyncio.CancelledError:
            await self._release(run)
            raise
        except Exception as error:
            if is_transient(error):
                if isinstance(error, Busy) or sqlstate(error).startswith(_CONTENTION):
                    await self._release(run)
                raise
            _log.error("batch_run_failed", **_log_fields(run), **error_details(error))
            await self._fail(run, [_UNEXPECTED])

    async def _failure_messages(self, run: Run, error: Rejected | PluginError) -> list[str]:
        """Return why a run has failed. The message of a plug-in's exception is redacted."""
        if isinstance(error, Rejected):
            return [each.message for each in error.errors]
        return [str(await with_reason(self._db, run.district.district_id, error))]

    async def _claim(self, owner: str) -> Row | None:
        """Claim the next run and return it, or None. Return None too if another worker claimed one of the district."""
        try:
            async with self._db.transaction() as conn:
                row = await fetchrow(
                    conn,
                    "batch/run/claim",
                    lease_owner=owner,
                    lease_seconds=self._lease_seconds,
                    migrations=self._migrations,
                )
                if row is not None:
                    await notify_run_changed(
                        conn, district_id=row["district_id"], batch_run_id=row["batch_run_id"]
                    )
                return row
        except Exception as error:
            if sqlstate(error) == _UNIQUE_VIOLATION:
                return None
            raise

    async def _execute(self, run: Run) -> None:
        if run.status == "PLANNING":
            await self._retry_while_busy(run, lambda: self._plan_while_renewing(run))
            if run.plan_only:
                return
        apply_next_chunk = partial(apply_chunk, self._db, run, lease_seconds=self._lease_seconds)
        while True:
            written = await self._retry_while_busy(run, apply_next_chunk)
            if written is None:
                break
            notify_preferences_changed(self._host, run.district.code, change_source(run), written)
        finished = await self._retry_while_busy(run, lambda: finish_run(self._db, run))
        self.notify_run_finished(run.summary("DONE", finished.population))
        if finished.reverted is not None:
            self.notify_run_finished(run.summary("REVERTED", finished.population, run_id=finished.reverted))
        await self._delete_plan(run)

    async def _retry_while_busy(self, run: Run, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step of a run, and repeat it until it gets its locks. The lease is renewed. Raises LeaseLost."""
        while True:
            try:
                return await step()
            except Busy as error:
                _log.warning("batch_run_delayed", run=run.run_id, error=str(error), sqlstate=sqlstate(error))
            await asyncio.sleep(self._poll_seconds)
            if not await self._renew_lease(run, PlanProgress().columns):
                raise LeaseLost

    async def _delete_plan(self, run: Run) -> None:
        """Delete the plan of a run that has ended."""
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
            population = await fetchval(conn, "batch/run/fail", **run.lease_key, errors=errors)
            if population is not None:
                await execute(conn, "batch/housekeeping/remove_plan", **run.key)
                await restore_status(conn, run.key, run.reverts)
                await notify_run_changed(conn, **run.key)
        if population is not None:
            self.notify_run_finished(run.summary("FAILED", population))

    async def _plan_while_renewing(self, run: Run) -> None:
        """Plan the run and renew its lease meanwhile. Raises LeaseLost as soon as the lease is found lost."""
        progress = PlanProgress()
        planning = asyncio.create_task(self._plan(run, progress))
        renewing = asyncio.create_task(self._renew_until_lost(run, progress))
        try:
            done, _ = await asyncio.wait((planning, renewing), return_when=asyncio.FIRST_COMPLETED)
            if planning not in done:
                raise LeaseLost
        finally:
            planning.cancel()
            renewing.cancel()
            await asyncio.gather(planning, renewing, return_exceptions=True)
        planning.result()

    async def _renew_until_lost(self, run: Run, progress: PlanProgress) -> None:
        """Save the plan's progress and renew the lease: periodically, and whenever there is progress."""
        renew_seconds = min(self._lease_seconds / 3, _RENEW_SECONDS)
        clock = asyncio.get_running_loop().time
        renewed_at, saved, has_lease = clock(), progress.columns, True
        while has_lease:
            await asyncio.sleep(min(renew_seconds, _PROGRESS_SECONDS))
            columns = progress.columns
            if columns == saved and clock() < renewed_at + renew_seconds:
                continue
            try:
                has_lease = await self._renew_lease(run, columns)
            except Exception as error:
                _log.warning("batch_lease_renewal_failed", run=run.run_id, error=type(error).__name__)
            else:
                renewed_at, saved = clock(), columns

    async def _renew_lease(self, run: Run, progress: dict[str, object]) -> bool:
        """Renew the lease and save the plan's progress. Return False if the lease is lost."""
        async with self._db.acquire() as conn:
            lease = {"lease_seconds": self._lease_seconds, "channel": CHANNEL}
            return (
                await fetchval(conn, "batch/run/record_planning", **run.lease_key, **lease, **progress)
                is not None
            )

    async def _release(self, run: Run) -> None:
        """Give up the lease, so that another worker can claim the run at once. Errors and delays are ignored."""
        with suppress(Exception):
            async with asyncio.timeout(_RELEASE_SECONDS), self._db.transaction() as conn:
                await execute(conn, "batch/run/release", **run.lease_key)
                await notify_run_changed(conn, **run.key)

    async def _clean_up_periodically(self) -> None:
        while True:
            try:
                await self._clean_up()
            except Exception as error:
                _log.warning("batch_cleanup_failed", error=type(error).__name__, where=error_location(error))
            await asyncio.sleep(_CLEAN_UP_SECONDS)

    async def _clean_up(self) -> None:
        """Delete leftovers of ended runs and killed workers, plans that nobody applied, and old idempotency keys."""
        message = f"The plan was not applied within {_PLAN_DAYS} days. Make a new one."
        async with self._db.transaction() as conn:
            await execute(
                conn, "batch/housekeeping/cancel_old_plans", kept_seconds=_PLAN_DAYS * 86400.0, error=message
            )
            await execute(conn, "batch/housekeeping/remove_plans")
            await execute(conn, "batch/housekeeping/remove_old_keys", valid_seconds=VALID_SECONDS)
