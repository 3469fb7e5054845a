"""Connections of HTTP: how many there may be, and how long each may take to ask and to read its answer.

aiohttp bounds none of this itself: a half-sent request holds its connection for an hour, an answer that nobody
reads for good.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo
from aiohttp.web_request import BaseRequest

from gql_server.errors import error_location

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

log = structlog.get_logger(__name__)

_LOG_EVERY_SECONDS = 10.0
_LINGER_SECONDS = 1.0
_STOPPING_WRITE_SECONDS = 3.0
_LAST_SECONDS = 0.5
_OTHER_FILES = 200
_UNREADABLE = "This is not a request of HTTP/1.1 that can be read. Send one."
_INTERNAL = "Something went wrong here. Try again."


def make_room(connections: int) -> int:
    """Let the process have as many files open as so many connections need.

    Return how many there can be: fewer where the system forbids it, which is logged.
    """
    if resource is None:
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == wanted:
        return connections
    room = max(allowed - _OTHER_FILES, allowed // 2)
    log.warning("fewer_connections_than_set", connections=room, open_files_allowed=allowed)
    return room


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of connections; times are in seconds.

    `total` and `per_address` count connections at a time. `head` is how long a request's line and headers may take
    from the connection's opening or from their first byte, `idle` how long a connection may lie between requests,
    and `write` how long a client may read nothing of what waits for it.
    """

    total: int
    per_address: int
    head: float
    idle: float
    write: float


class Notices:
    """Log lines that a stranger can cause: the first of a kind at once, then one every ten seconds with a count."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def warn(self, event: str, **words: object) -> None:
        now = time.monotonic()
        if now - self._last.get(event, -_LOG_EVERY_SECONDS) < _LOG_EVERY_SECONDS:
            self._unsaid[event] += 1
            return
        self._last[event] = now
        log.warning(event, **words, also_unlogged=self._unsaid.pop(event, 0))


@dataclass(slots=True)
class Gate:
    """Counts the connections of one server and says who may come in."""

    limits: ConnectionLimits
    notices: Notices = field(default_factory=Notices)
    _open: Counter[str] = field(default_factory=Counter)
    _total: int = 0

    def admit(self, address: str) -> bool:
        """Count a connection in, unless there are too many; say so in the log."""
        if self._total >= self.limits.total:
            self.notices.warn("too_many_connections", limit=self.limits.total)
            return False
        if self._open[address] >= self.limits.per_address:
            self.notices.warn(
                "too_many_connections_of_one_address", address=address, limit=self.limits.per_address
            )
            return False
        self._open[address] += 1
        self._total += 1
        return True

    def leave(self, address: str) -> None:
        self._total -= 1
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class _Protocol(RequestHandler):
    """One connection, with the clocks that aiohttp's own lacks."""

    __slots__ = ("_address", "_backlog", "_gate", "_head_clock", "_heard", "_patience", "_write_clock")

    def __init__(self, manager: web.Server, gate: Gate, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._gate = gate
        self._address: str | None = None
        self._head_clock: asyncio.TimerHandle | None = None
        self._write_clock: asyncio.TimerHandle | None = None
        self._patience = gate.limits.write
        self._backlog = 0
        self._heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        real = cast(asyncio.Transport, transport)
        peer = real.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) and peer else "local"
        if not self._gate.admit(address):
            real.abort()
            return
        self._address = address
        # Whatever the client has not taken counts, however little: `pause_writing` then starts a clock.
        real.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        self._start_head_clock()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_clock()
        self._stop_write_clock()
        if self._address is None:
            return
        self._gate.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return
        self._heard = True
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_head_clock()
            self._tell_broken_body()
        elif data and self._waiter is not None and self._head_clock is None:
            self._start_head_clock()  # a next request on this connection has begun, and is not whole

    def _tell_broken_body(self) -> None:
        """Let the request whose body is being read know at once where it turns out to be none."""
        request, last = self._current_request, self._messages[-1][0] if self._messages else None
        if request is not None and isinstance(last, _ErrInfo) and not request.content.is_eof():
            request.content.set_exception(RequestPayloadError(last.message))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_clock()

    def resume_writing(self) -> None:
        self._stop_write_clock()
        super().resume_writing()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109
        """Let the answer under way be sent, for `timeout` seconds in all; then end it and close."""
        self._patience = min(self._patience, _STOPPING_WRITE_SECONDS)
        if self._write_clock is not None:
            self._start_write_clock()
        self.close()
        task = self._task_handler
        if task is not None:
            await asyncio.wait({task}, timeout=timeout)
            task.cancel()
        await super().shutdown(_LAST_SECONDS)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be handled, with one short line in the log and nothing of its inside."""
        if isinstance(exc, HttpProcessingError | RequestPayloadError):
            self._note_malformed(exc)
            code, words, status = "BAD_REQUEST", _UNREADABLE, 400
        else:
            log.error(
                "unexpected_error", error=type(exc).__name__, where=error_location(exc) if exc else "unknown"
            )
            code, words = "INTERNAL", _INTERNAL
        if request.writer.output_size > 0:
            raise ConnectionError("An answer has begun already.")
        body = orjson.dumps({"errors": [{"message": words, "extensions": {"code": code}}]})
        response = web.Response(body=body, status=status, content_type="application/json", charset="utf-8")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **words: Any) -> None:
        """Log an error outside of any request's handler in one line."""
        error = words.get("exc_info")
        if isinstance(error, HttpProcessingError | RequestPayloadError):
            self._note_malformed(error)
        elif isinstance(error, BaseException):
            log.error("connection_failed", error=type(error).__name__, where=error_location(error))
        else:
            log.error("connection_failed")

    def _note_malformed(self, error: BaseException) -> None:
        self._gate.notices.warn("malformed_request", address=self._address, error=type(error).__name__)

    def _start_head_clock(self) -> None:
        self._head_clock = self._loop.call_later(self._gate.limits.head, self._give_up_head)

    def _stop_head_clock(self) -> None:
        if self._head_clock is not None:
            self._head_clock.cancel()
            self._head_clock = None

    def _give_up_head(self) -> None:
        self._head_clock = None
        if self._heard:  # browsers open connections in advance, and say nothing on them
            self._gate.notices.warn("request_not_sent_in_time", address=self._address)
        self.force_close()

    def _start_write_clock(self) -> None:
        self._stop_write_clock()
        if self.transport is not None:
            self._backlog = self.transport.get_write_buffer_size()
            self._write_clock = self._loop.call_later(self._patience, self._check_reader, self.transport)

    def _stop_write_clock(self) -> None:
        if self._write_clock is not None:
            self._write_clock.cancel()
            self._write_clock = None

    def _check_reader(self, transport: asyncio.Transport) -> None:
        """Wait on while the client reads something; end a connection on which it has read nothing."""
        self._write_clock = None
        left = transport.get_write_buffer_size()
        if 0 < left < self._backlog:
            self._backlog = left
            self._write_clock = self._loop.call_later(self._patience, self._check_reader, transport)
        elif left:
            self._gate.notices.warn("answer_not_read_in_time", address=self._address, bytes=left)
            transport.abort()


class _Server(web.Server):
    """Makes connections of the kind above."""

    def __init__(self, gate: Gate, handler: Any, **settings: Any) -> None:
        super().__init__(handler, **settings)
        self._gate = gate

    def __call__(self) -> RequestHandler:
        return _Protocol(self, self._gate, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Serves one application within the limits. A read ends when its client leaves; mutations shield themselves."""

    def __init__(self, app: web.Application, limits: ConnectionLimits, *, answer_seconds: float) -> None:
        """`answer_seconds`: what answers that are under way have when the server stops."""
        super().__init__(app, handle_signals=False, shutdown_timeout=answer_seconds)
        self._limits = limits

    async def _make_server(self) -> web.Server:
        app, loop = self.app, asyncio.get_running_loop()
        app._set_loop(loop)
        app.on_startup.freeze()
        await app.startup()
        app.freeze()
        return _Server(
            Gate(self._limits),
            app._handle,
            request_factory=app._make_request,
            handler_cancellation=True,
            loop=loop,
            access_log=None,
            keepalive_timeout=self._limits.idle,
            lingering_time=_LINGER_SECONDS,
            auto_decompress=False,
        )
