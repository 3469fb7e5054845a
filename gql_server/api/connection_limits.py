"""Limits for the connections of HTTP clients: how many may be open, and how long each may take to send and to read.

aiohttp has no such limits: a request that is never completed would keep its connection open for an hour, and a
response that is never read would keep it open for ever.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import orjson
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo
from aiohttp.web_request import BaseRequest

from gql_server.errors import error_location

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

log = structlog.get_logger(__name__)

Routes: TypeAlias = Mapping[tuple[str, str], Callable[[web.Request], Awaitable[web.StreamResponse]]]
"""The handlers of an application by method and path."""
DIRECT_ROUTES: "web.AppKey[Routes]" = web.AppKey("direct_routes")
"""The key under which an application keeps routes that need neither a parameter nor a middleware. The router would
make several objects for each request to find them."""

_LOG_EVERY_SECONDS = 10.0
_LINGER_SECONDS = 1.0
_WRITE_SECONDS_WHEN_STOPPING = 3.0
_SHUTDOWN_SECONDS = 0.5
_OTHER_OPEN_FILES = 200
_UNREADABLE = "This is not a request of HTTP/1.1 that can be read. Send one."
_INTERNAL = "Something went wrong here. Try again."


def raise_open_file_limit(connections: int) -> int:
    """Raise the process's limit of open files to what a number of connections needs.

    Return the number of connections that fit. If the system does not allow enough files, that number is lower, and a
    warning is logged.
    """
    if resource is None:
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_OPEN_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == wanted:
        return connections
    room = max(allowed - _OTHER_OPEN_FILES, allowed // 2)
    log.warning("fewer_connections_than_set", connections=room, open_files_allowed=allowed)
    return room


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits for client connections.

    total: open connections of the server.
    per_address: open connections of one address.
    header_seconds: how long the request line and the headers may take to arrive, from the opening of the connection,
        or from their first byte if it is not the first request.
    idle_seconds: how long a connection may stay open between requests.
    write_seconds: how long a client may read nothing while data is waiting for it.
    """

    total: int
    per_address: int
    header_seconds: float
    idle_seconds: float
    write_seconds: float


class RateLimitedLog:
    """Logs events that any client can cause, at most one of a kind every ten seconds.

    `also_unlogged` is the number of events of the kind that were suppressed since the last line.
    """

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._suppressed: Counter[str] = Counter()

    def warn(self, event: str, **details: object) -> None:
        now = time.monotonic()
        if now - self._last.get(event, -_LOG_EVERY_SECONDS) < _LOG_EVERY_SECONDS:
            self._suppressed[event] += 1
            return
        self._last[event] = now
        log.warning(event, **details, also_unlogged=self._suppressed.pop(event, 0))


@dataclass(slots=True)
class ConnectionCounter:
    """Counts the open connections of one server, and refuses those beyond the limits."""

    limits: ConnectionLimits
    log: RateLimitedLog = field(default_factory=RateLimitedLog)
    _open: Counter[str] = field(default_factory=Counter)
    _total: int = 0

    def admit(self, address: str) -> bool:
        """Count a new connection, and return True; log a warning and return False if there are too many."""
        if self._total >= self.limits.total:
            self.log.warn("too_many_connections", limit=self.limits.total)
            return False
        if self._open[address] >= self.limits.per_address:
            self.log.warn(
                "too_many_connections_of_one_address", address=address, limit=self.limits.per_address
            )
            return False
        self._open[address] += 1
        self._total += 1
        return True

    def release(self, address: str) -> None:
        self._total -= 1
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class _ClientConnection(RequestHandler):
    """aiohttp's handler of one connection, with the limits that it lacks."""

    __slots__ = (
        "_address",
        "_counter",
        "_header_timer",
        "_received_data",
        "_unread_bytes",
        "_write_seconds",
        "_write_timer",
    )

    def __init__(self, manager: web.Server, counter: ConnectionCounter, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._counter = counter
        self._address: str | None = None
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._write_seconds = counter.limits.write_seconds
        self._unread_bytes = 0
        self._received_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        real = cast(asyncio.Transport, transport)
        peer = real.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) and peer else "local"
        if not self._counter.admit(address):
            real.abort()
            return
        self._address = address
        # Any unread byte counts: `pause_writing` is then called at once, and starts the timer.
        real.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        self._start_header_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_header_timer()
        self._stop_write_timer()
        if self._address is None:
            return
        self._counter.release(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return
        self._received_data = True
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_header_timer()
            self._fail_broken_body()
        elif data and self._waiter is not None and self._header_timer is None:
            self._start_header_timer()  # another request on this connection has begun to arrive

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on reading after a pause. aiohttp calls this for each body, paused or not."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def _fail_broken_body(self) -> None:
        """Fail the reading of a request's body at once if the body turns out to be malformed."""
        request, last = self._current_request, self._messages[-1][0] if self._messages else None
        if request is not None and isinstance(last, _ErrInfo) and not request.content.is_eof():
            request.content.set_exception(RequestPayloadError(last.message))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109
        """Wait up to `timeout` seconds for the current response to be sent, then close the connection."""
        self._write_seconds = min(self._write_seconds, _WRITE_SECONDS_WHEN_STOPPING)
        if self._write_timer is not None:
            self._start_write_timer()
        self.close()
        task = self._task_handler
        if task is not None:
            await asyncio.wait({task}, timeout=timeout)
            task.cancel()
        await super().shutdown(_SHUTDOWN_SECONDS)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a request that failed. It reveals nothing internal, and one short line is logged."""
        if isinstance(exc, HttpProcessingError | RequestPayloadError):
            self._log_malformed(exc)
            code, message, status = "BAD_REQUEST", _UNREADABLE, 400
        else:
            log.error(
                "unexpected_error", error=type(exc).__name__, where=error_location(exc) if exc else "unknown"
            )
            code, message = "INTERNAL", _INTERNAL
        if request.writer.output_size > 0:
            raise ConnectionError("A response has been started already.")
        body = orjson.dumps({"errors": [{"message": message, "extensions": {"code": code}}]})
        response = web.Response(body=body, status=status, content_type="application/json", charset="utf-8")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log, in one line, an error that is not in the handler of a request."""
        error = kwargs.get("exc_info")
        if isinstance(error, HttpProcessingError | RequestPayloadError):
            self._log_malformed(error)
        elif isinstance(error, BaseException):
            log.error("connection_failed", error=type(error).__name__, where=error_location(error))
        else:
            log.error("connection_failed")

    def _log_malformed(self, error: BaseException) -> None:
        self._counter.log.warn("malformed_request", address=self._address, error=type(error).__name__)

    def _start_header_timer(self) -> None:
        self._header_timer = self._loop.call_later(
            self._counter.limits.header_seconds, self._close_for_late_headers
        )

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _close_for_late_headers(self) -> None:
        self._header_timer = None
        if self._received_data:  # browsers open connections in advance, and send nothing on them
            self._counter.log.warn("request_not_sent_in_time", address=self._address)
        self.force_close()

    def _start_write_timer(self) -> None:
        self._stop_write_timer()
        if self.transport is not None:
            self._unread_bytes = self.transport.get_write_buffer_size()
            self._write_timer = self._loop.call_later(
                self._write_seconds, self._close_if_not_reading, self.transport
            )

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _close_if_not_reading(self, transport: asyncio.Transport) -> None:
        """Close the connection if the client has read nothing since the timer was started; else start it again."""
        self._write_timer = None
        unread_bytes = transport.get_write_buffer_size()
        if 0 < unread_bytes < self._unread_bytes:
            self._unread_bytes = unread_bytes
            self._write_timer = self._loop.call_later(
                self._write_seconds, self._close_if_not_reading, transport
            )
        elif unread_bytes:
            self._counter.log.warn("answer_not_read_in_time", address=self._address, bytes=unread_bytes)
            transport.abort()


class _Server(web.Server):
    """aiohttp's server, with limited connections."""

    def __init__(self, counter: ConnectionCounter, handler: Any, **settings: Any) -> None:
        super().__init__(handler, **settings)
        self._counter = counter

    def __call__(self) -> RequestHandler:
        return _ClientConnection(self, self._counter, loop=self._loop, **self._kwargs)


class LimitedRunner(web.AppRunner):
    """Serves one application within the limits.

    When a client disconnects, the handler of its request is cancelled. Mutations are shielded from that.
    """

    def __init__(self, app: web.Application, limits: ConnectionLimits, *, answer_seconds: float) -> None:
        """`answer_seconds` is how long a response may still take when the server stops."""
        super().__init__(app, handle_signals=False, shutdown_timeout=answer_seconds)
        self._limits = limits
        self._routes: Routes = {}

    def _handle(self, request: BaseRequest) -> Awaitable[web.StreamResponse]:
        """Call the handler of a request that needs no routing, or let the application find it."""
        handler = self._routes.get((request.method, request.raw_path))
        if handler is None or hdrs.EXPECT in request.headers:
            return self.app._handle(cast(web.Request, request))
        return handler(cast(web.Request, request))

    async def _make_server(self) -> web.Server:
        app, loop = self.app, asyncio.get_running_loop()
        if not app.middlewares and not app.on_response_prepare:  # which only the application itself runs
            self._routes = app.get(DIRECT_ROUTES, {})
        app._set_loop(loop)
        app.on_startup.freeze()
        await app.startup()
        app.freeze()
        return _Server(
            ConnectionCounter(self._limits),
            self._handle,
            request_factory=app._make_request,
            handler_cancellation=True,
            loop=loop,
            access_log=None,
            keepalive_timeout=self._limits.idle_seconds,
            lingering_time=_LINGER_SECONDS,
            auto_decompress=False,
        )
