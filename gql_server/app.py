"""The composition root: the only module that knows everyone."""

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
from gql_server.db.pool import connect, open_pool
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

_ANSWERS_SHARE, _TIDY_SHARE = 0.6, 0.9
"""Of the time to stop in: what answers under way get, and all that is asked to end with them."""
_READY_SECONDS = 3.0
_SETTLE_SECONDS = 5.0
"""How long a server that stops waits for plug-ins that are told what has happened."""


def shorten_pauses() -> None:
    """Keep short what makes every request wait. To be called once all is loaded."""
    # A full collection stops the process, for 40 to 90 ms. What is there by now stays, and need not be looked at again.
    gc.collect()
    gc.freeze()
    # A thread in which a check computes gives the event loop its turn after so many seconds; by default after 5 ms.
    sys.setswitchinterval(0.0005)


def make_host(settings: Settings) -> PluginHost:
    """Load the plug-ins: the built-in ones, the folder of the settings, installed distributions. Raises PluginError."""
    folders = [resource_folder("plugins")]
    if settings.plugins_dir is not None:
        folders.append(settings.plugins_dir)
    return PluginHost(folders, settings.disabled_plugins, hook_seconds=settings.hook_timeout)


async def require_migrated(conn: Connection) -> None:
    """Raise ConfigurationError where the database is not migrated, or by a newer version than this."""
    names = [migration.name for migration in await pending(conn)]
    if names:
        raise ConfigurationError(f"The database lacks {', '.join(names)}. Run `gql-server migrate`.")


class Readiness:
    """Whether a server that runs can do its work: what /readyz says."""

    def __init__(self, db: Database, host: PluginHost) -> None:
        self._db = db
        self._host = host
        self._newer = False

    async def check(self) -> Mapping[str, object]:
        """Return what there is to know besides. Raises ConfigurationError, TimedOut, Unavailable where it cannot."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                return await self._ask()
        except TimeoutError as error:
            raise TimedOut(f"The database has not answered within {_READY_SECONDS:g} s.") from error

    async def _ask(self) -> Mapping[str, object]:
        told: dict[str, object] = {}
        async with self._db.acquire() as conn:
            try:
                await require_migrated(conn)
            except NewerSchema as error:
                # The fleet is upgraded one server after the other: until its turn comes each does its work.
                told["schema"] = "newer"
                if not self._newer:
                    log.warning("newer_schema", words=str(error))
                self._newer = True
            await require_writable(conn)
            lacking = await missing_reasons(conn, self._host.reasons)
        told["pooler"] = (
            "yes: statements have a transaction each, and no name is kept" if self._db.behind_pooler else "no"
        )
        if lacking.districts:
            told["districtsThatLackReasons"] = lacking.districts
        return told


def role_limits(settings: Settings) -> RoleLimits:
    """Return what one read of each role may ask for."""
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


def make_app(settings: Settings, db: Database, host: PluginHost) -> web.Application:
    """Wire one server on an open pool. Its batch worker and its ear for runs that move are up as long as it is.

    Raises ConfigurationError.
    """
    schema = build_schema()
    signals = RunSignals(db)
    worker = BatchWorker(
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
    handler = GraphQLHandler(
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
        services=Services(
            BatchService(db, host, worker, signals, poll_seconds=settings.batch_watch_seconds),
            PreferenceService(db, host, settings.check_timeout),
            FilterService(db, host),
        ),
        limits=role_limits(settings),
        graphiql=settings.graphiql,
        body_seconds=settings.body_timeout,
    )

    readiness = Readiness(db, host)

    async def work_batches(app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(worker.run()), asyncio.create_task(signals.run())]
        yield
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await host.calls.finish(_SETTLE_SECONDS)

    app = web.Application(client_max_size=settings.max_body_bytes)
    add_routes(app, handler, readiness.check)
    app.cleanup_ctx.append(work_batches)
    return app


def cannot_listen(settings: Settings, error: OSError | UnicodeError) -> ConfigurationError:
    """Return why a server cannot listen, and what to do, by the kind of the error."""
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        why = "the port is in use. Stop the program that has it, or choose another port in GQL_SERVER_PORT."
    elif number in (errno.EACCES, errno.EPERM):
        why = "that port may not be used by this user. Choose one above 1023 in GQL_SERVER_PORT."
    else:
        why = "that is no address of this machine. Give one in GQL_SERVER_HOST, such as 127.0.0.1."
    return ConfigurationError(f"Cannot listen on port {settings.port} of {settings.host[:100]}: {why}")


def make_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """Return what serves the application, within the settings' bounds for connections."""
    limits = ConnectionLimits(
        total=settings.max_connections,
        per_address=settings.max_connections_per_address,
        header_seconds=settings.header_timeout,
        idle_seconds=settings.keepalive_timeout,
        write_seconds=settings.write_timeout,
    )
    return LimitedRunner(app, limits, answer_seconds=settings.stop_timeout * _ANSWERS_SHARE)


async def serve(settings: Settings, dsn: str, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM, SIGINT or cancellation. `ready` is called with the base URL once it listens.

    Raises ConfigurationError where the settings or the database do not allow it: nothing is applied here.
    """
    configure_logging(settings.log_level)
    if unknown := unknown_variables(os.environ):
        words = "There are no such settings. Are they misspelt? `gql-server settings` lists all."
        log.warning("unknown_settings", variables=unknown, words=words)
    with stop_signals(settings.stop_timeout) as stop:
        serving = asyncio.create_task(_serve(settings, dsn, ready))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()  # at any point of its start, too
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


@contextlib.contextmanager
def stop_signals(seconds: float) -> Iterator[asyncio.Event]:
    """Give an event that SIGTERM and SIGINT set. Whatever hangs then, the process ends so many seconds later."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if not stop.is_set():
            stop.set()
            watch = threading.Timer(seconds, _give_up)
            watch.daemon = True
            watch.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _give_up() -> None:
    log.error("stop_timeout_reached", words="Something did not end. What it was doing is cut off.")
    os._exit(1)


async def _serve(settings: Settings, dsn: str, ready: Callable[[str], None] | None) -> None:
    """Serve until cancelled."""
    host = make_host(settings)
    async with connect(dsn, unnamed_statements=settings.unnamed_statements) as conn:
        await require_migrated(conn)
        lacking = await missing_reasons(conn, host.reasons)
    if lacking.districts:
        log.warning(
            "districts_lack_reasons", districts=lacking.districts, reasons=list(lacking.codes),
            words="Nothing can be set for these reasons there. Run `gql-server migrate`.",
        )  # fmt: skip
    settings = settings.model_copy(
        update={"max_connections": raise_open_file_limit(settings.max_connections)}
    )
    db = await open_pool(
        dsn,
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        acquire_timeout=settings.acquire_timeout,
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
        unnamed_statements=settings.unnamed_statements,
        max_prepared_bytes=settings.max_prepared_bytes,
    )
    runner = make_runner(make_app(settings, db, host), settings)
    try:
        await runner.setup()
        shorten_pauses()
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except (OSError, UnicodeError) as error:
            raise cannot_listen(settings, error) from error
        if ready is not None:
            port = runner.addresses[0][1]
            ready(f"http://{settings.host}:{port}")
        await asyncio.Event().wait()
    finally:
        try:
            async with asyncio.timeout(settings.stop_timeout * _TIDY_SHARE):
                await runner.cleanup()
                await db.close()
        except TimeoutError:
            log.warning("stopped_in_the_middle", words="What was still under way is cut off.")
