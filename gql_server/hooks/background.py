"""Calls hooks in threads, each with a time limit: one that waits holds up only those who need its answer.

Hooks of built-in plug-ins wait for nothing, and are called at once where no other plug-in is called with them. Their
rules depend on nothing but the request, so what they gave for equal requests is remembered.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from gql_server.domain import defaults
from gql_server.errors import Busy, PluginError, error_location_in_plugin
from gql_server.hooks.threads import PluginRaised, PluginThread, require_responsive
from gql_server.hooks.types import BatchScope, Population, PreferenceChanges, RuleRequest, RunSummary

if TYPE_CHECKING:
    from gql_server.hooks.host import OwnedRule, PluginHost

T = TypeVar("T")

MAX_CONCURRENT_CALLS = 32
"""How many requests may be in one hook at the same time; others wait until one of them has its answer."""
MAX_QUEUED_NOTIFICATIONS = 1_000
"""How many calls may wait for one plug-in's listeners."""
_MAX_IDLE_THREADS = 4
_MAX_REMEMBERED_RULES = 256
_TOO_BUSY = "Too many requests wait for the answer of a plug-in. Try again."
_log = structlog.get_logger(__name__)


class CurrentPlugin:
    """The plug-in whose hook is being called, of all that one request calls; if time runs out, it is to blame."""

    def __init__(self) -> None:
        self.name = ""

    def set(self, plugin: str) -> None:
        """Record that a plug-in is called next. Raises PluginError where it has left too many threads behind."""
        self.name = plugin
        require_responsive(plugin)


class HookCalls:
    """Calls the hooks of a host in threads, for code on the server's event loop.

    Listeners are notified in the background. The listeners of one plug-in are called one after another, in the order
    in which this process learned of the commits; the listeners of different plug-ins do not wait for each other.
    """

    def __init__(self, host: "PluginHost", seconds: float = defaults.HOOK_SECONDS) -> None:
        self.seconds = seconds
        self._host = host
        self._built_in_rules = lru_cache(_MAX_REMEMBERED_RULES)(host.rules)
        self._idle_threads: list[PluginThread] = []
        self._limits: dict[str, asyncio.Semaphore] = {}
        self._queues: dict[str, deque[tuple[str, dict[str, object]]]] = {}
        self._notifiers: dict[str, asyncio.Task[None]] = {}
        self._calls: set[asyncio.Task[Any]] = set()

    async def rules(self, request: RuleRequest) -> "Sequence[OwnedRule]":
        """Return the rules for a request, as `PluginHost.rules` does. Raises PluginError, and Busy."""
        if self._host.are_built_in(self._host.plugins_with("eligibility_rules")):
            return self._built_in_rules(request)

        async def call(current: CurrentPlugin) -> "Sequence[OwnedRule]":
            return self._host.rules(request, current)

        return await self._in_thread("eligibility_rules", "eligibility_rules", call)

    async def population(self, mode: str, scope: BatchScope) -> Population:
        """Return the people of a mode, as `PluginHost.population` does. Raises PluginError, and Busy."""

        async def call(current: CurrentPlugin) -> Population:
            return self._host.population(mode, scope, current)

        return await self._in_thread("select_population", "select_population", call)

    def notify_run_finished(self, run: RunSummary) -> None:
        """Notify every plug-in soon. A failure is logged and undoes nothing."""
        self._notify("run_finished", run=run)

    def notify_preferences_changed(self, changes: PreferenceChanges) -> None:
        """Notify every plug-in soon. A failure is logged and undoes nothing."""
        self._notify("preferences_changed", changes=changes)

    async def finish(self, seconds: float) -> None:
        """Wait until all notifications are made, but no longer than `seconds`; then end all calls."""
        notifiers = list(self._notifiers.values())
        if notifiers:
            await asyncio.wait(notifiers, timeout=seconds)
        for plugin, queue in self._queues.items():
            if queue:
                _log.error("plugin_not_notified", plugin=plugin, calls=len(queue), why="The server stops.")
                queue.clear()
        ending = [*notifiers, *self._calls]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        while self._idle_threads:
            self._idle_threads.pop().end()

    async def run_limited(self, what: str, seconds: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await a call of what is named, when fewer than MAX_CONCURRENT_CALLS others are in it.

        Waits up to `seconds` for that. Raises Busy when they are over.

        Once begun, the call goes on until its end or its own time limit, even when its caller is cancelled: a client
        that disconnects does not make a slow plug-in look like one that never answers.
        """
        async with AsyncExitStack() as slot:
            await slot.enter_async_context(self._slot(what, seconds))
            task = asyncio.create_task(_with_slot(slot.pop_all(), call))
        self._calls.add(task)
        task.add_done_callback(self._forget_call)
        return await asyncio.shield(task)

    async def _in_thread(self, what: str, hook: str, call: Callable[[CurrentPlugin], Awaitable[T]]) -> T:
        """Await a call in a thread. Raises PluginError where it fails or takes too long, and Busy."""
        current = CurrentPlugin()

        async def call_in_thread() -> T:
            async with self._thread() as thread:
                try:
                    async with asyncio.timeout(self.seconds):
                        return await thread.run(lambda: call(current), lambda: current.name)
                except TimeoutError as timeout:
                    if not current.name:  # the thread was not scheduled in time: no plug-in is to blame
                        raise Busy(_TOO_BUSY) from timeout
                    problem = f"{hook} took longer than {self.seconds:g} s."
                    raise PluginError(current.name, problem) from timeout
                except PluginRaised as raised:
                    raise raised.error from raised.error.__cause__

        return await self.run_limited(what, self.seconds, call_in_thread)

    @asynccontextmanager
    async def _slot(self, what: str, seconds: float) -> AsyncIterator[None]:
        """Hold one of the MAX_CONCURRENT_CALLS places of what is named during the block. Raises Busy."""
        semaphore = self._limits.setdefault(what, asyncio.Semaphore(MAX_CONCURRENT_CALLS))
        try:
            async with asyncio.timeout(seconds):
                await semaphore.acquire()
        except TimeoutError as timeout:
            raise Busy(_TOO_BUSY) from timeout
        try:
            yield
        finally:
            semaphore.release()

    def _forget_call(self, task: "asyncio.Task[Any]") -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio would log an exception that nobody retrieves, and the caller may be gone

    @asynccontextmanager
    async def _thread(self) -> AsyncIterator[PluginThread]:
        """Provide an idle thread, or a new one."""
        thread = self._idle_threads.pop() if self._idle_threads else None
        if thread is None or not thread.usable:
            thread = PluginThread("hooks").__enter__()
        try:
            yield thread
        finally:
            if thread.usable and len(self._idle_threads) < _MAX_IDLE_THREADS:
                self._idle_threads.append(thread)
            else:
                thread.end()

    def _notify(self, hook: str, **args: object) -> None:
        """Queue a call of the listeners of every plug-in that has the hook."""
        for plugin in self._host.plugins_with(hook):
            queue = self._queues.setdefault(plugin, deque())
            if len(queue) >= MAX_QUEUED_NOTIFICATIONS:
                _log.error("plugin_not_notified", plugin=plugin, hook=hook, why="Too many calls wait for it.")
                continue
            queue.append((hook, args))
            if plugin not in self._notifiers:
                self._notifiers[plugin] = asyncio.create_task(self._notify_in_order(plugin, queue))

    async def _notify_in_order(self, plugin: str, queue: deque[tuple[str, dict[str, object]]]) -> None:
        """Call the listeners of one plug-in until its queue is empty."""
        try:
            while queue:
                hook, args = queue.popleft()
                try:
                    await self._call_listener(plugin, hook, args)
                except Exception as error:
                    message = str(error) if isinstance(error, PluginError) else type(error).__name__
                    where = error_location_in_plugin(error.__cause__ or error)
                    _log.error("plugin_failed", plugin=plugin, hook=hook, error=message, where=where)
        finally:
            # In the same step in which the queue was found empty, so that no call is left in it.
            del self._notifiers[plugin]

    async def _call_listener(self, plugin: str, hook: str, args: dict[str, object]) -> None:
        if self._host.are_built_in((plugin,)):
            await self._host.notify(plugin, hook, **args)
            return

        async def call(current: CurrentPlugin) -> None:
            await self._host.notify(plugin, hook, current, **args)

        await self._in_thread(f"{hook} of {plugin}", hook, call)


async def _with_slot(slot: AsyncExitStack, call: Callable[[], Awaitable[T]]) -> T:
    async with slot:
        return await call()
