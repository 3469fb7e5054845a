"""Serves with several worker processes: starts them, replaces those that end, and stops them together.

Every worker is a whole server with its share of the connections. All of them listen on one port with SO_REUSEPORT, and
the kernel gives each new connection to one of them. Nothing else is shared: runs are handed over by their leases, and
their watchers are notified by PostgreSQL, as between servers on several machines.

A worker gives signs of life from its event loop, as long as it serves. One that is silent for too long hangs: it would
keep the connections that the kernel gives it without an answer, so it is killed and replaced.
"""

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import structlog

from gql_server import app
from gql_server.cli.common import run
from gql_server.db.database_errors import explain_error
from gql_server.errors import ConfigurationError, GqlServerError, TimedOut
from gql_server.settings import Settings, variable, worker_settings
from gql_server.telemetry import configure_logging

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.5, 30.0
"""How long to wait before a worker is replaced. The pause doubles while workers end soon after their start."""
_STEADY_SECONDS = 60.0
"""A worker that has served so long is replaced after the first pause again."""
_STOP_GRACE_SECONDS = 2.0
"""How much longer than `stop_timeout` a worker may take to stop, before it is killed."""
_SIGNS = 10
"""How many signs of life a worker gives in the time in which it may be silent."""
# A forked process would share the parent's event loop and threads.
_SPAWN = multiprocessing.get_context("spawn")


async def serve(settings: Settings, dsn: str, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve with `settings.workers` processes until SIGTERM, SIGINT or cancellation.

    `ready` is called with the base URL when all of them serve. Raises ConfigurationError: the address cannot be used,
    or a worker could not start the first time. A worker that ends or hangs later is replaced.
    Raises TimedOut: a worker was told to stop and did not, so that the rest of its work was aborted.
    """
    configure_logging(settings.log_level)
    app.warn_of_unknown_variables()
    with _reserved_port(settings) as port, _stop_event() as stop:
        workers = [_Worker(settings, dsn, number, port) for number in range(1, settings.workers + 1)]
        supervising = asyncio.create_task(_supervise(workers, lambda: ready and ready(_url(settings, port))))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((supervising, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            supervising.cancel()
            stopping.cancel()
            with suppress(asyncio.CancelledError):
                await supervising
        if aborted := [worker.number for worker in workers if worker.aborted]:
            raise TimedOut(_aborted_message(aborted, settings.stop_timeout))


async def _supervise(workers: list["_Worker"], ready: Callable[[], object]) -> None:
    """Start the workers and replace those that end, until cancelled; then stop all. Raises ConfigurationError."""
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            await worker.wait_until_up()
        ready()
        async with asyncio.TaskGroup() as tasks:
            for worker in workers:
                tasks.create_task(worker.keep_running())
    finally:
        for worker in workers:
            worker.request_stop()
        await asyncio.gather(*(worker.stop() for worker in workers))


class _Worker:
    """One worker process and its successors. aborted: whether the last one was asked to stop and did not in time."""

    def __init__(self, settings: Settings, dsn: str, number: int, port: int) -> None:
        self._settings = worker_settings(settings, number, port)
        self._stop_seconds = settings.stop_timeout + _STOP_GRACE_SECONDS
        self._dsn = dsn
        self.number = number
        self.aborted = False
        self._process: BaseProcess | None = None
        self._told: Connection | None = None
        self._started = 0.0

    def start(self) -> None:
        """Start a process. Raises ConfigurationError if the system refuses it; then nothing has changed."""
        try:
            told, tell = _SPAWN.Pipe(duplex=False)
            with tell:  # closed here, so that the end of the worker ends the pipe
                process = _SPAWN.Process(
                    target=_run,
                    args=(self._settings, self._dsn, self.number, tell),
                    name=f"worker {self.number}",
                )
                process.start()
        except OSError as error:
            message = f"The system does not start worker {self.number}: {error}. Try fewer workers."
            raise ConfigurationError(message) from error
        self._process, self._told = process, told
        self._started = time.monotonic()

    async def wait_until_up(self) -> None:
        """Wait until the worker serves. Raises ConfigurationError with its message if it ends instead.

        A worker that takes too long is killed.
        """
        assert self._told is not None
        assert self._process is not None
        seconds = self._settings.worker_start_timeout
        try:
            async with asyncio.timeout(seconds - (time.monotonic() - self._started)):
                await _readable(self._told.fileno())
            problem = self._told.recv()
        except TimeoutError:
            self._process.kill()
            problem = (
                f"Worker {self.number} did not serve within {seconds:g} s and was killed. Look for a plug-in that"
                f" does not finish loading, or raise {variable('worker_start_timeout')} if the machine is slow."
            )
        except EOFError:
            await _readable(self._process.sentinel)
            problem = f"Worker {self.number} ended while it was started ({self._end()})."
        if problem is not None:
            raise ConfigurationError(problem)

    async def keep_running(self) -> None:
        """Replace the process whenever it ends or hangs, until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            await self._wait_until_ended()
            if time.monotonic() - self._started > _STEADY_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            log.error("worker_ended", worker=self.number, cause=self._end(), again_in=pause)
            pause = await self._replace(pause)

    async def _wait_until_ended(self) -> None:
        """Wait until the process has ended. Kill it if it hangs."""
        assert self._process is not None
        assert self._told is not None
        try:
            while await self._gives_a_sign():
                if (problem := self._told.recv()) is not None:
                    log.error("worker_failed", worker=self.number, reason=problem)
        except EOFError:
            pass
        else:
            reason = (
                f"It has said nothing for {self._settings.worker_silence_timeout:g} s: its event loop does not run."
                " A plug-in may hold the interpreter, or the process stands still."
            )
            log.error("worker_killed", worker=self.number, reason=reason)
            self._process.kill()
        await _readable(self._process.sentinel)

    async def _gives_a_sign(self) -> bool:
        """Wait until the worker says something or ends. Return False if it was silent for too long."""
        assert self._told is not None
        # Many short waits: if this process itself stands still, only one of them passes meanwhile.
        for _ in range(_SIGNS):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.worker_silence_timeout / _SIGNS):
                    await _readable(self._told.fileno())
                return True
        return False

    async def _replace(self, pause: float) -> float:
        """Pause, then start a process that serves; again until there is one. Return how long to pause the next time."""
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            try:
                self.start()
                await self.wait_until_up()
            except ConfigurationError as error:
                log.error("worker_not_started", worker=self.number, reason=str(error), again_in=pause)
                await self._end_in_time()
            else:
                log.info("worker_replaced", worker=self.number)
                return pause

    def request_stop(self) -> None:
        if self._process is not None and self._process.is_alive():
            self._process.terminate()

    async def stop(self) -> None:
        """Wait until the process, which was asked to stop, has ended. Kill it if it takes too long."""
        if self._process is None:
            return
        running = self._process.is_alive()
        killed = await self._end_in_time()
        self.aborted = killed or (running and (self._process.exitcode or 0) > 0)

    async def _end_in_time(self) -> bool:
        """Wait until the process has ended. Kill it if it takes too long, and return whether that was so."""
        assert self._process is not None
        killed = False
        try:
            async with asyncio.timeout(self._stop_seconds):
                await _readable(self._process.sentinel)
        except TimeoutError:
            log.error("worker_killed", worker=self.number, reason="It did not stop in time.")
            self._process.kill()
            killed = True
        self._process.join()
        return killed

    def _end(self) -> str:
        """Return how the process ended. It has."""
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _run(settings: Settings, dsn: str, number: int, tell: Connection) -> None:
    """Be a worker. Sends None when it serves and again and again while it does, or else why it does not."""
    # A terminal sends these to all processes. The parent decides and sends SIGTERM.
    for name in ("SIGINT", "SIGHUP"):
        if code := getattr(signal, name, None):
            signal.signal(code, signal.SIG_IGN)
    os.set_blocking(
        tell.fileno(), False
    )  # a parent that stands still does not read, and must not stop the worker
    try:
        run(_serve(settings, dsn, number, tell))
    except Exception as error:
        with suppress(OSError):  # the parent is gone
            tell.send(str(error) if isinstance(error, GqlServerError) else explain_error(error))
        sys.exit(1)


async def _serve(settings: Settings, dsn: str, number: int, tell: Connection) -> None:
    """Serve until SIGTERM, or until the parent has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    asyncio.get_running_loop().add_reader(parent.sentinel, _stop_with_parent, parent.sentinel)
    seconds = settings.worker_silence_timeout / _SIGNS
    await app.serve(settings, dsn, ready=lambda _: _give_signs(tell, seconds), worker_number=number)


def _give_signs(tell: Connection, seconds: float) -> None:
    """Give a sign of life now, and again after so many seconds each, as long as the event loop runs."""
    with suppress(OSError):  # the parent is gone, or has not read for long
        tell.send(None)
    asyncio.get_running_loop().call_later(seconds, _give_signs, tell, seconds)


def _stop_with_parent(sentinel: int) -> None:
    asyncio.get_running_loop().remove_reader(sentinel)
    log.error("parent_ended", message="The process that started this worker is gone. The worker stops too.")
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _reserved_port(settings: Settings) -> Iterator[int]:
    """Give the port that all workers will listen on, and keep it from other programs. Raises ConfigurationError."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError("This system has no SO_REUSEPORT. Serve with one worker.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # Without SO_REUSEPORT this fails if any other server has the port, one with workers too.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            address = probe.getsockname()
        reserved = socket.socket(family, kind, protocol)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            reserved.setsockopt(socket.SOL_SOCKET, option, 1)
        reserved.bind(address)
    except (OSError, UnicodeError) as error:
        raise app.cannot_listen(settings, error) from error
    with reserved:  # it does not listen, so that no connection is given to it
        yield address[1]


@contextmanager
def _stop_event() -> Iterator[asyncio.Event]:
    """Give an event that SIGTERM and SIGINT set."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _aborted_message(numbers: list[int], seconds: float) -> str:
    who = f"Worker {numbers[0]}" if len(numbers) == 1 else f"Workers {', '.join(map(str, numbers))}"
    return f"{who} did not stop within {seconds:g} s. The rest of its work was aborted."


def _url(settings: Settings, port: int) -> str:
    return f"http://{settings.host}:{port}"


async def _readable(descriptor: int) -> None:
    """Wait until a file descriptor can be read, or is at its end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
