"""Fair sharing of the connection pool: slots for reads and for writes, of which no district can take all.

A district that already holds a slot gets another one only while a reserve stays free. So one busy district holds at
most its own part of the slots, and the reserve serves the districts that hold none, whatever keeps the other slots
occupied: a lock, or long reads.
"""

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager

from gql_server.domain.slots import write_slot_count
from gql_server.errors import Busy


class FairSlots:
    """A semaphore that is fair between districts. Within a district the first to come is the first to be served."""

    def __init__(self, slots: int, per_district: int, timeout: float, busy_message: str) -> None:
        """`per_district`: slots that one district may hold. `timeout`: seconds to wait before Busy is raised."""
        self._free = slots
        self._reserve = slots - per_district
        self._timeout = timeout
        self._busy_message = busy_message
        self._in_use: dict[int, int] = {}
        self._waiting: dict[int | None, deque[asyncio.Future[None]]] = {}

    def slot(self, district_id: int | None) -> AbstractAsyncContextManager[None]:
        """Hold a slot during the block. None stands for the server's own work, which has no limit. Raises Busy."""
        return _Slot(self, district_id)

    async def take(self, district_id: int | None) -> None:
        """Take a slot, which the caller releases. Raises Busy."""
        if not self.take_at_once(district_id):
            await self._wait_for_slot(district_id)

    def take_at_once(self, district_id: int | None) -> bool:
        """Take a slot, which the caller releases, and return True; return False if one would have to wait for it."""
        if not self._is_available(district_id):
            return False
        # No one else waits for this slot: `_serve_waiting` runs at every release.
        self._take(district_id)
        return True

    def _is_available(self, district_id: int | None) -> bool:
        return self._free > (self._reserve if district_id in self._in_use else 0)

    def _take(self, district_id: int | None) -> None:
        self._free -= 1
        if district_id is not None:
            self._in_use[district_id] = self._in_use.get(district_id, 0) + 1

    def release(self, district_id: int | None) -> None:
        """Give back a slot that was taken."""
        self._free += 1
        if district_id is not None:
            self._in_use[district_id] -= 1
            if not self._in_use[district_id]:
                del self._in_use[district_id]
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        """Give free slots to the waiting: first to the district that holds fewest, equal districts in turn."""
        while self._waiting:
            district_id = min(self._waiting, key=self._count_in_use)
            if not self._is_available(district_id):
                return  # the other waiting districts hold as many slots or more
            queue = self._waiting.pop(district_id)
            future = queue.popleft()
            if queue:
                self._waiting[district_id] = queue  # to the end of the dictionary, behind the other districts
            if not future.done():
                self._take(district_id)
                future.set_result(None)

    def _count_in_use(self, district_id: int | None) -> int:
        return 0 if district_id is None else self._in_use.get(district_id, 0)

    async def _wait_for_slot(self, district_id: int | None) -> None:
        """Wait until `_serve_waiting` has taken a slot for the caller."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(district_id, deque()).append(future)
        timer = loop.call_later(self._timeout, self._give_up, future)
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(district_id)  # the slot was taken at the moment when the wait ended
            else:
                self._stop_waiting(district_id, future)
            raise
        finally:
            timer.cancel()

    def _give_up(self, future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_exception(Busy(self._busy_message))

    def _stop_waiting(self, district_id: int | None, future: asyncio.Future[None]) -> None:
        queue = self._waiting.get(district_id)
        if queue is not None and future in queue:
            queue.remove(future)
            if not queue:
                del self._waiting[district_id]


class _Slot(AbstractAsyncContextManager[None]):
    """A slot that is held during a block."""

    __slots__ = ("_district_id", "_slots")

    def __init__(self, slots: FairSlots, district_id: int | None) -> None:
        self._slots, self._district_id = slots, district_id

    async def __aenter__(self) -> None:
        await self._slots.take(self._district_id)

    async def __aexit__(self, *error: object) -> None:
        self._slots.release(self._district_id)


def write_slots(connections: int, timeout: float) -> FairSlots:
    """Return the slots for writes on a pool of that many connections: half of them, at least one.

    One district may hold half of the slots, but always two if there are two: planning a run holds one for a long time.
    """
    slots = write_slot_count(connections)
    message = "Too many changes are waiting. Nothing was written; try again in a moment."
    return FairSlots(slots, max(min(2, slots), slots // 2), timeout, message)


def read_slots(connections: int, timeout: float) -> FairSlots:
    """Return the slots for reads: one for each connection. One district may hold one less than the writes leave over.

    So a connection is free for the other districts' reads, whatever one district reads and however many writes run.
    In a small pool a district may hold two slots, as long as that is not all of them.
    """
    not_for_writes = connections - write_slot_count(connections)
    message = "Too many reads of this district are waiting. Try again in a moment."
    return FairSlots(connections, max(1, min(2, connections - 1), not_for_writes - 1), timeout, message)
