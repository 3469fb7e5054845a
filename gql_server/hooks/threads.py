"""Threads in which the code of plug-ins runs: whatever it does there, the server's event loop goes on."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self, TypeVar

import structlog

from gql_server.errors import PluginError, error_location

T = TypeVar("T")

MAX_ABANDONED_THREADS = 20
"""How many of its threads may still be running after their time limit before a plug-in is no longer called."""

_log = structlog.get_logger(__name__)
_abandoned: dict[str, set[threading.Thread]] = {}
"""The threads that still run after their time limit, by plug-in."""


class PluginRaised(Exception):
    """A plug-in's code raised `error`.

    The wrapper tells a TimeoutError or CancelledError of the plug-in's from one of the server's.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


def require_responsive(plugin: str) -> None:
    """Raise PluginError where too many threads of the plug-in still run after their time limit."""
    if len(_abandoned.get(plugin, ())) >= MAX_ABANDONED_THREADS:
        problem = f"{MAX_ABANDONED_THREADS} of its calls have not come back. Fix it, then restart the server."
        raise PluginError(plugin, problem)


class PluginThread:
    """A daemon thread with an event loop, for one call after another.

    A context manager. When the block ends, the thread ends too, with all tasks that a call left running. A call that
    blocks the thread for ever keeps neither the block nor the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_task_error)
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._is_abandoned = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let the thread end as soon as the code that it runs returns."""
        with suppress(RuntimeError):  # a call can have stopped the loop
            self._loop.call_soon_threadsafe(self._ended.set)

    @property
    def usable(self) -> bool:
        """Whether another call may be made in it."""
        return not self._is_abandoned and self._thread.is_alive() and not self._loop.is_closed()

    async def run(self, call: Callable[[], Awaitable[T]], plugin: Callable[[], str]) -> T:
        """Await a call in the thread and return its result. Raises PluginRaised.

        When it is cancelled, the thread is abandoned: until it ends, it counts against the plug-in that `plugin`
        names then.
        """
        future = asyncio.run_coroutine_threadsafe(result_or_error(call), self._loop)
        try:
            result, error = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._abandon(plugin())
            raise
        if error is not None:
            raise PluginRaised(error)
        return result  # type: ignore[no-any-return]

    def _abandon(self, plugin: str) -> None:
        self._is_abandoned = True
        self._thread.name = f"abandoned: {plugin}"
        _abandoned.setdefault(plugin, set()).add(self._thread)
        self.end()
        if not self._thread.is_alive():
            _forget(self._thread)

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._until_ended())
        finally:
            _forget(self._thread)

    async def _until_ended(self) -> None:
        await self._ended.wait()


def _forget(thread: threading.Thread) -> None:
    for threads in list(_abandoned.values()):
        threads.discard(thread)


async def result_or_error(call: Callable[[], Awaitable[object]]) -> tuple[Any, BaseException | None]:
    """Return the result of a call, or what it raises.

    An exception that is returned is not logged by asyncio when nobody waits for it any more.
    """
    try:
        return await call(), None
    except BaseException as error:
        return None, error


def _log_task_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log the error of a task that a call left running, without its words: they may be about a person."""
    error = context.get("exception")
    if error is not None:
        _log.warning("plugin_task_failed", error=type(error).__name__, where=error_location(error))
