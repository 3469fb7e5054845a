"""Calls hooks in threads, each with a time limit, so that one that waits holds up those alone who ask it too."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from gql_server.errors import Busy, PluginError, error_location_in_plugin
from gql_server.hooks.threads import PluginRaised, PluginThread, require_responsive
from gql_server.hooks.types import BatchScope, Population, PreferenceChanges, RuleRequest, RunSummary

if TYPE_CHECKING:
    from gql_server.hooks.host import OwnedRule, PluginHost

T = TypeVar("T")

HOOK_SECONDS = 10.0
"""How long the hooks that a request asks may take, and each call of a listener."""
MAX_CONCURRENT_CALLS = 32
"""How many requests may be in one hook at the same time; others wait for one of them to come back."""
MAX_QUEUED_NOTIFICATIONS = 1_000
"""How many calls may wait for one plug-in's listeners."""
_MAX_IDLE_THREADS = 4
_TOO_BUSY = "Too many requests wait for the answer of a plug-in. Try again."
_log = structlog.get_logger(__name__)


async def _holding(held: AsyncExitStack, call: Callable[[], Awaitable[T]]) -> T:
    async with held:
        return await call()


class CurrentPlugin:
    """Which plug-in is being asked, of those that one call asks: the one to blame where it does not come back."""

    def __init__(self) -> None:
        self.plugin = ""

    def of(self, plugin: str) -> None:
        """Note whose current it is. Raises PluginError where too many of its calls are stuck."""
        self.plugin = plugin
        require_responsive(plugin)


class HookCalls:
    """Calls the hooks of a host, for the server's event loop.

    Listeners are told in the background: those of one plug-in one after another, in the order in which this process
    heard of the commits; those of another do not wait for them.
    """

    def __init__(self, host: "PluginHost", seconds: float = HOOK_SECONDS) -> None:
        self.seconds = seconds
        self._host = host
        self._idle: list[PluginThread] = []
        self._rooms: dict[str, asyncio.Semaphore] = {}
        self._untold: dict[str, deque[tuple[str, dict[str, object]]]] = {}
        self._tellers: dict[str, asyncio.Task[None]] = {}
        self._asked: set[asyncio.Task[Any]] = set()

    async def rules(self, requests: Sequence[RuleRequest]) -> "list[list[OwnedRule]]":
        """Return the rules for each request, as `PluginHost.rules` does. Raises PluginError, and Busy."""
        host = self._host
        return await self._ask(
            "eligibility_rules", lambda current: [host.rules(each, current) for each in requests]
        )

    async def population(self, mode: str, scope: BatchScope) -> Population:
        """Return the people of a mode, as `PluginHost.population` does. Raises PluginError, and Busy."""
        host = self._host
        return await self._ask("select_population", lambda current: host.population(mode, scope, current))

    def notify_run_finished(self, run: RunSummary) -> None:
        """Tell every plug-in soon. What fails there, or does not get through, is logged and undoes nothing."""
        self._tell("run_finished", run=run)

    def notify_preferences_changed(self, changes: PreferenceChanges) -> None:
        """Tell every plug-in soon. What fails there, or does not get through, is logged and undoes nothing."""
        self._tell("preferences_changed", changes=changes)

    async def finish(self, seconds: float) -> None:
        """Wait until the plug-ins have heard all, but no longer than so many seconds; then tell them no more."""
        tellers = list(self._tellers.values())
        if tellers:
            await asyncio.wait(tellers, timeout=seconds)
        for plugin, untold in self._untold.items():
            if untold:
                _log.error("plugin_not_notified", plugin=plugin, calls=len(untold), why="The server stops.")
                untold.clear()
        ending = [*tellers, *self._asked]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        while self._idle:
            self._idle.pop().end()

    async def _ask(self, hook: str, call: Callable[[CurrentPlugin], T]) -> T:
        async def ask(current: CurrentPlugin) -> T:
            return call(current)

        return await self._aside(hook, hook, ask)

    async def _aside(self, room: str, hook: str, call: Callable[[CurrentPlugin], Awaitable[T]]) -> T:
        """Await a call in a thread. Raises PluginError where it fails or takes too long, and Busy."""
        current = CurrentPlugin()

        async def in_thread() -> T:
            async with self._thread() as thread:
                try:
                    async with asyncio.timeout(self.seconds):
                        return await thread.run(lambda: call(current), lambda: current.plugin)
                except TimeoutError as timeout:
                    if not current.plugin:  # the thread never had its current: no plug-in is to blame
                        raise Busy(_TOO_BUSY) from timeout
                    raise PluginError(
                        current.plugin, f"{hook} took longer than {self.seconds:g} s."
                    ) from timeout
                except PluginRaised as raised:
                    raise raised.error from raised.error.__cause__

        return await self.run_limited(room, self.seconds, in_thread)

    async def run_limited(self, what: str, seconds: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for room for one more to ask what is named, for so many seconds; then await the call. Raises Busy.

        The call is made to its end, or its own time limit, also where nobody waits for it any more: who leaves early
        does not make it one that never comes back.
        """
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._room(what, seconds))
            asked = asyncio.create_task(_holding(held.pop_all(), call))
        self._asked.add(asked)
        asked.add_done_callback(self._asked_to_its_end)
        return await asyncio.shield(asked)

    def _asked_to_its_end(self, asked: "asyncio.Task[Any]") -> None:
        self._asked.discard(asked)
        if not asked.cancelled():
            asked.exception()  # nobody may be there to hear it

    @asynccontextmanager
    async def _room(self, what: str, seconds: float) -> AsyncIterator[None]:
        semaphore = self._rooms.setdefault(what, asyncio.Semaphore(MAX_CONCURRENT_CALLS))
        try:
            async with asyncio.timeout(seconds):
                await semaphore.acquire()
        except TimeoutError as timeout:
            raise Busy(_TOO_BUSY) from timeout
        try:
            yield
        finally:
            semaphore.release()

    @asynccontextmanager
    async def _thread(self) -> AsyncIterator[PluginThread]:
        """Give a thread, one that is idle or a new one."""
        thread = self._idle.pop() if self._idle else None
        if thread is None or not thread.usable:
            thread = PluginThread("hooks").__enter__()
        try:
            yield thread
        finally:
            if thread.usable and len(self._idle) < _MAX_IDLE_THREADS:
                self._idle.append(thread)
            else:
                thread.end()

    def _tell(self, hook: str, **args: object) -> None:
        for plugin in self._host.plugins_with(hook):
            untold = self._untold.setdefault(plugin, deque())
            if len(untold) >= MAX_QUEUED_NOTIFICATIONS:
                _log.error("plugin_not_notified", plugin=plugin, hook=hook, why="Too many calls wait for it.")
                continue
            untold.append((hook, args))
            if plugin not in self._tellers:
                self._tellers[plugin] = asyncio.create_task(self._tell_all(plugin, untold))

    async def _tell_all(self, plugin: str, untold: deque[tuple[str, dict[str, object]]]) -> None:
        try:
            while untold:
                hook, args = untold.popleft()
                try:
                    await self._tell_one(plugin, hook, args)
                except Exception as error:
                    words = str(error) if isinstance(error, PluginError) else type(error).__name__
                    where = error_location_in_plugin(error.__cause__ or error)
                    _log.error("plugin_failed", plugin=plugin, hook=hook, error=words, where=where)
        finally:
            del self._tellers[plugin]  # at once: whoever tells next begins anew

    async def _tell_one(self, plugin: str, hook: str, args: dict[str, object]) -> None:
        async def tell(current: CurrentPlugin) -> None:
            await self._host.tell(plugin, hook, current, **args)

        await self._aside(f"{hook} of {plugin}", hook, tell)
