"""Does outside of the event loop what every new document needs once: it is parsed, validated and compiled.

All of this is Python, which runs in one thread at a time, so more threads would make nothing faster. Two of them let
the documents of another district proceed while a long one is worked on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from weakref import WeakValueDictionary

from gql_server.db.slots import FairSlots
from gql_server.domain import defaults
from gql_server.domain.viewer import Viewer
from gql_server.errors import Busy

T = TypeVar("T")

_THREADS = 2
_PER_DISTRICT = 1
_TOO_MANY = "Too many new documents are waiting. Try again in a moment."


class Background:
    """Threads for new documents. A viewer has one document at a time in work, and a district one thread at most."""

    def __init__(self, wait_seconds: float = defaults.ACQUIRE_SECONDS) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "documents")
        self._wait_seconds = wait_seconds
        self._slots = FairSlots(_THREADS, _PER_DISTRICT, wait_seconds, _TOO_MANY)
        self._viewers: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()
        self._keys: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def once(
        self, viewer: Viewer, key: Hashable, find: Callable[[], T | None], make: Callable[[], T]
    ) -> T:
        """Return what `find` returns in the viewer's turn, or else what `make` returns in a thread.

        If many ask for the same key at the same time, the first makes it, and the others find it. Raises Busy, and
        what `make` raises. When cancelled, a `make` that has begun goes on to its end, and keeps its turn until then.
        """
        async with self._turn(viewer), _lock(self._keys, key):
            found = find()
            return found if found is not None else await self._in_thread(make)

    @asynccontextmanager
    async def _turn(self, viewer: Viewer) -> AsyncIterator[None]:
        lock = _lock(self._viewers, viewer)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await lock.acquire()
        except TimeoutError as error:
            raise Busy(_TOO_MANY) from error
        try:
            async with self._slots.slot(viewer.district.district_id):
                yield
        finally:
            lock.release()

    async def _in_thread(self, make: Callable[[], T]) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._threads, make)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            with suppress(Exception):
                await work
            raise


def _lock(locks: "WeakValueDictionary[Hashable, asyncio.Lock]", key: Hashable) -> asyncio.Lock:
    """Return the lock of a key. It exists as long as somebody holds it or waits for it."""
    return locks.setdefault(key, asyncio.Lock())
