"""The composition root: the only module that knows everyone."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import structlog
from aiohttp import web

from gql_server.api.auth import Tokens
from gql_server.api.context import Services
from gql_server.api.districts import DistrictCache
from gql_server.api.http import GraphQLHandler, RoleLimits, add_routes
from gql_server.api.limits import validation_rules
from gql_server.api.schema import build_schema
from gql_server.db.migrations import pending
from gql_server.db.pool import connect, open_pool
from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import resource_folder
from gql_server.errors import ConfigurationError
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import DocumentCache
from gql_server.reads.links import ReadLimits
from gql_server.services.batch.service import BatchService
from gql_server.services.batch.signals import RunSignals
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.districts import missing_reasons
from gql_server.services.filters import FilterService
from gql_server.services.preferences import PreferenceService
from gql_server.settings import Settings


def configure_logging(level: str) -> None:
    """Log to stderr from this level on: lines for people on a terminal, JSON elsewhere."""
    tty = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer() if tty else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


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
    return PluginHost(folders, settings.disabled_plugins)


async def check_ready(conn: Connection, host: PluginHost) -> None:
    """Raise ConfigurationError where the database is not migrated, or lacks a reason of a loaded plug-in."""
    names = [migration.name for migration in await pending(conn)]
    if names:
        raise ConfigurationError(f"The database lacks {', '.join(names)}. Run `gql-server migrate`.")
    codes = await missing_reasons(conn, host.reasons)
    if codes:
        raise ConfigurationError(
            f"Some district has no place for the reasons {', '.join(codes)} of the loaded plug-ins. "
            "Run `gql-server migrate`."
        )


def role_limits(settings: Settings) -> RoleLimits:
    """Return what one read of each role may ask for."""
    admin = ReadLimits(
        max_first=settings.max_page_size,
        price=settings.max_price,
        characters=settings.max_statement_characters,
        answer_bytes=settings.max_answer_bytes,
    )
    return RoleLimits(
        vendor=replace(admin, max_first=settings.max_vendor_page_size),
        admin=admin,
        portal=replace(
            admin,
            price=settings.max_portal_price,
            characters=settings.max_portal_statement_characters,
            answer_bytes=settings.max_portal_answer_bytes,
            seconds=settings.portal_statement_timeout,
        ),
    )


def make_app(settings: Settings, db: Database, host: PluginHost) -> web.Application:
    """Wire one server on an open pool. Its batch worker and its ear for runs that move are up as long as it is.

    Raises ConfigurationError.
    """
    signing_key = settings.signing_key.get_secret_value() if settings.signing_key else ""
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
        tokens=Tokens(signing_key),
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
    )

    async def ready() -> None:
        async with db.acquire() as conn:
            await check_ready(conn, host)

    async def work_batches(app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(worker.run()), asyncio.create_task(signals.run())]
        yield
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    app = web.Application(client_max_size=settings.max_body_bytes)
    add_routes(app, handler, ready)
    app.cleanup_ctx.append(work_batches)
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """Return what serves the application. A read ends when its client leaves; mutations shield themselves from that."""
    return web.AppRunner(app, access_log=None, handle_signals=False, handler_cancellation=True)


async def serve(settings: Settings, dsn: str, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM, SIGINT or cancellation. `ready` is called with the base URL once it listens.

    Raises ConfigurationError where the settings or the database do not allow it: nothing is applied here.
    """
    configure_logging(settings.log_level)
    host = make_host(settings)
    async with connect(dsn) as conn:
        await check_ready(conn, host)
    db = await open_pool(
        dsn,
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        acquire_timeout=settings.acquire_timeout,
        statement_timeout=settings.statement_timeout,
    )
    runner = make_runner(make_app(settings, db, host))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await runner.setup()
        shorten_pauses()
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
                "Choose another port in GQL_SERVER_PORT."
            ) from error
        if ready is not None:
            port = runner.addresses[0][1]
            ready(f"http://{settings.host}:{port}")
        await stop.wait()
    finally:
        await runner.cleanup()
        await db.close()
