"""The composition root: builds a server from its parts, starts it and stops it. No other module imports all layers."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace

import structlog
from aiohttp import web

from gql_server.api.auth import Tokens
from gql_server.api.connection_limits import ConnectionLimits, LimitedRunner, raise_open_file_limit
from gql_server.api.context import Services
from gql_server.api.districts import DistrictCache
from gql_server.api.document_limits import validation_rules
from gql_server.api.execution import RoleLimits
from gql_server.api.http import GraphQLHandler, add_routes
from gql_server.api.schema import build_schema
from gql_server.db.migrations import pending, require_writable
from gql_server.db.pool import Pool, connect, open_pool
from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import resource_folder
from gql_server.errors import ConfigurationError, NewerSchema, TimedOut
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import DocumentCache
from gql_server.reads.links import ReadLimits
from gql_server.services.batch.service import BatchService
from gql_server.services.batch.signals import RunSignals
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.districts import missing_reasons
from gql_server.services.filters import FilterService
from gql_server.services.preferences import PreferenceService
from gql_server.settings import Settings, unknown_variables
from gql_server.telemetry import configure_logging

log = structlog.get_logger(__name__)

_ANSWER_SHARE, _CLEANUP_SHARE = 0.6, 0.9
"""Parts of `stop_timeout`: for the requests that are being answered, and for these and the clean-up together."""
_READY_SECONDS = 3.0
_SETTLE_SECONDS = 5.0
"""How long a stopping server waits for plug-ins that are still being notified."""


def shorten_pauses() -> None:
    """Shorten the pauses that delay every request. Call this when everything is loaded."""
    # A full garbage collection stops the process for 40 to 90 ms. The objects loaded by now are excluded from it.
    gc.collect()
    gc.freeze()
    # With full caches of documents it would take half a second, again and again while new documents come. It looks for
    # old objects that only refer to each other, of which there are few: a hundredth of the default frequency is enough.
    generation_0, generation_1, _ = gc.get_threshold()
    gc.set_threshold(generation_0, generation_1, 1_000)
    # How long a thread with a plug-in's check may compute before the event loop runs again; the default is 5 ms.
    sys.setswitchinterval(0.0005)


def make_host(settings: Settings) -> PluginHost:
    """Load the plug-ins: built-in ones, those of `plugins_dir`, and installed distributions. Raises PluginError."""
    folders = [resource_folder("plugins")]
    if settings.plugins_dir is not None:
        folders.append(settings.plugins_dir)
    return PluginHost(folders, settings.disabled_plugins, hook_seconds=settings.hook_timeout)


async def require_migrated(conn: Connection) -> None:
    """Raise ConfigurationError if migrations are pending, and NewerSchema if a newer version migrated the database."""
    names = [migration.name for migration in await pending(conn)]
    if names:
        raise ConfigurationError(f"The database lacks {', '.join(names)}. Run `gql-server migrate`.")


class Readiness:
    """Whether a running server can serve requests: the answer of /readyz."""

    def __init__(self, db: Database, host: PluginHost, worker: int | None = None) -> None:
        self._db = db
        self._host = host
        self._worker = worker
        self._newer_schema_logged = False

    async def details(self) -> Mapping[str, object]:
        """Return details of a server that is ready. Raises ConfigurationError, TimedOut, Unavailable if it is not."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                return await self._read_details()
        except TimeoutError as error:
            raise TimedOut(f"The database has not answered within {_READY_SECONDS:g} s.") from error

    async def _read_details(self) -> Mapping[str, object]:
        details: dict[str, object] = {}
        async with self._db.acquire() as conn:
            try:
                await require_migrated(conn)
            except NewerSchema as error:
                # Servers are upgraded one after the other. An old one must serve until its turn comes.
                details["schema"] = "newer"
                if not self._newer_schema_logged:
                    log.warning("newer_schema_found", message=str(error))
                self._newer_schema_logged = True
            await require_writable(conn)
            missing = await missing_reasons(conn, self._host.reasons)
        details["pooler"] = (
            "yes: each statement runs in a transaction and is unnamed" if self._db.behind_pooler else "no"
        )
        if missing.districts:
            details["districtsThatLackReasons"] = missing.districts
        if self._worker is not None:
            details["worker"] = self._worker
        return details


def role_limits(settings: Settings) -> RoleLimits:
    """Return the limits of one read for each role."""
    admin = ReadLimits(
        max_first=settings.max_page_size,
        max_price=settings.max_price,
        max_characters=settings.max_statement_characters,
        max_answer_bytes=settings.max_answer_bytes,
    )
    return RoleLimits(
        vendor=replace(admin, max_first=settings.max_vendor_page_size),
        admin=admin,
        portal=replace(
            admin,
            max_price=settings.max_portal_price,
            max_characters=settings.max_portal_statement_characters,
            max_answer_bytes=settings.max_portal_answer_bytes,
            timeout_seconds=settings.portal_statement_timeout,
        ),
    )


def make_app(
    settings: Settings, db: Database, host: PluginHost, *, worker_number: int | None = None
) -> web.Application:
    """Return a server on an open pool. Its batch worker and run signals run as long as the server.

    worker_number: told by /readyz, where the server is one of several worker processes.

    Raises ConfigurationError.
    """
    signals = RunSignals(db)
    worker = _make_worker(settings, db, host)
    services = Services(
        BatchService(db, host, worker, signals, poll_seconds=settings.batch_watch_seconds),
        PreferenceService(db, host, settings.check_timeout, settings.statement_timeout),
        FilterService(db, host),
    )

    async def run_in_background(app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(worker.run()), asyncio.create_task(signals.run())]
        yield
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await host.calls.finish(_SETTLE_SECONDS)

    app = web.Application(client_max_size=settings.max_body_bytes)
    add_routes(app, _make_handler(settings, db, host, services), Readiness(db, host, worker_number).details)
    app.cleanup_ctx.append(run_in_background)
    return app


def _make_worker(settings: Settings, db: Database, host: PluginHost) -> BatchWorker:
    return BatchWorker(
        db,
        host,
        lease_seconds=settings.batch_lease_seconds,
        poll_seconds=settings.batch_poll_seconds,
        chunk_size=settings.batch_chunk_size,
        workers=settings.batch_workers,
        check_seconds=settings.check_timeout,
        statement_seconds=settings.statement_timeout,
        plan_max_age=settings.batch_plan_max_age,
    )


def _make_handler(settings: Settings, db: Database, host: PluginHost, services: Services) -> GraphQLHandler:
    schema = build_schema()
    return GraphQLHandler(
        schema=schema,
        documents=DocumentCache(
            schema.graphql,
            validation_rules(settings.max_depth, settings.max_aliases, settings.max_selections),
            max_tokens=settings.max_tokens,
            max_characters=settings.max_document_characters,
        ),
        tokens=Tokens.of(settings),
        districts=DistrictCache(db),
        db=db,
        host=host,
        services=services,
        limits=role_limits(settings),
        graphiql=settings.graphiql,
        body_seconds=settings.body_timeout,
    )


def cannot_listen(settings: Settings, error: OSError | UnicodeError) -> ConfigurationError:
    """Return an error that says why the server cannot listen, and what to do."""
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        cause = (
            "the port is in use. Stop the program that uses it, or choose another port in GQL_SERVER_PORT."
        )
    elif number in (errno.EACCES, errno.EPERM):
        cause = "this user may not use that port. Choose one above 1023 in GQL_SERVER_PORT."
    else:
        cause = "this machine has no such address. Give one in GQL_SERVER_HOST, such as 127.0.0.1."
    return ConfigurationError(f"Cannot listen on port {settings.port} of {settings.host[:100]}: {cause}")


def make_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """Return a runner that serves the application, with the settings' limits for HTTP connections."""
    limits = ConnectionLimits(
        total=settings.max_connections,
        per_address=settings.max_connections_per_address,
        header_seconds=settings.header_timeout,
        idle_seconds=settings.keepalive_timeout,
        write_seconds=settings.write_timeout,
    )
    return LimitedRunner(app, limits, answer_seconds=settings.stop_timeout * _ANSWER_SHARE)


async def serve(
    settings: Settings,
    dsn: str,
    *,
    ready: Callable[[str], None] | None = None,
    worker_number: int | None = None,
) -> None:
    """Serve in this process until SIGTERM, SIGINT or cancellation.

    `ready` is called with the base URL when the server listens. `worker_number`: given to one of several worker
    processes that listen on the same port. Raises ConfigurationError if the settings or the state of the database do
    not allow it. No migration is applied.
    """
    configure_logging(settings.log_level, worker_number)
    if worker_number is None:
        warn_of_unknown_variables()
    with stop_signals(settings.stop_timeout) as stop:
        serving = asyncio.create_task(_serve(settings, dsn, ready, worker_number))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()  # this also interrupts the start
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


def warn_of_unknown_variables() -> None:
    """Log the environment variables that look like settings but are none."""
    if unknown := unknown_variables(os.environ):
        message = "There are no such settings. Are they misspelled? `gql-server settings` lists all."
        log.warning("unknown_settings_found", variables=unknown, message=message)


@contextlib.contextmanager
def stop_signals(seconds: float) -> Iterator[asyncio.Event]:
    """Give an event that SIGTERM and SIGINT set. The process is ended that many seconds later if it still runs."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def request_stop() -> None:
        if not stop.is_set():
            stop.set()
            timer = threading.Timer(seconds, _exit_at_once)
            timer.daemon = True
            timer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _exit_at_once() -> None:
    log.error(
        "stop_timeout_reached", message="The server did not stop in time. The rest of its work is aborted."
    )
    os._exit(1)


async def _serve(
    settings: Settings, dsn: str, ready: Callable[[str], None] | None, worker_number: int | None
) -> None:
    """Serve until cancelled."""
    host = make_host(settings)
    await _prepare(settings, dsn, host)
    settings = settings.model_copy(
        update={"max_connections": raise_open_file_limit(settings.max_connections)}
    )
    db = await _open_pool(settings, dsn)
    runner = make_runner(make_app(settings, db, host, worker_number=worker_number), settings)
    try:
        await runner.setup()
        shorten_pauses()
        await _listen(runner, settings, shared=worker_number is not None)
        if ready is not None:
            port = runner.addresses[0][1]
            ready(f"http://{settings.host}:{port}")
        await asyncio.Event().wait()
    finally:
        try:
            async with asyncio.timeout(settings.stop_timeout * _CLEANUP_SHARE):
                await runner.cleanup()
                await db.close()
        except TimeoutError:
            log.warning(
                "stop_cleanup_aborted", message="The clean-up did not end in time. Its rest is aborted."
            )


async def _prepare(settings: Settings, dsn: str, host: PluginHost) -> None:
    """Raise ConfigurationError if the database is not migrated; warn if districts lack reasons of the plug-ins."""
    async with connect(dsn, unnamed_statements=settings.unnamed_statements) as conn:
        await require_migrated(conn)
        missing = await missing_reasons(conn, host.reasons)
    if missing.districts:
        log.warning(
            "missing_reasons_found", districts=missing.districts, reasons=list(missing.codes),
            message="Nothing can be set for these reasons there. Run `gql-server migrate`.",
        )  # fmt: skip


async def _open_pool(settings: Settings, dsn: str) -> Pool:
    return await open_pool(
        dsn,
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        acquire_timeout=settings.acquire_timeout,
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
        unnamed_statements=settings.unnamed_statements,
        max_prepared_bytes=settings.max_prepared_bytes,
        max_read_memory=settings.max_read_memory,
    )


async def _listen(runner: web.AppRunner, settings: Settings, *, shared: bool) -> None:
    """Start to listen, on a `shared` port beside other processes. Raises ConfigurationError if that is not possible."""
    try:
        await web.TCPSite(runner, settings.host, settings.port, reuse_port=shared or None).start()
    except (OSError, UnicodeError) as error:
        raise cannot_listen(settings, error) from error
