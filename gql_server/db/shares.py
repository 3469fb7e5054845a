"""Whose turn it is: places for reads or for writes, of which no district can take all.

A district that holds a place gets a further one only while enough stay free after it; so one district alone holds at
most its part, and what is beside that part goes to districts that hold none. Whatever holds the places up, a lock or
long reads, as many other districts still get one each.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gql_server.domain.shares import writers
from gql_server.errors import Busy


class Shares:
    """So many places, handed to districts in turn; within a district first come, first served."""

    def __init__(self, places: int, alone: int, timeout: float, busy: str) -> None:
        """`alone`: places that one district may hold. `timeout`: seconds to wait for a place. `busy`: then said."""
        self._free = places
        self._kept = places - alone
        self._timeout = timeout
        self._busy = busy
        self._held: dict[int, int] = {}
        self._waiting: dict[int | None, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def place(self, district_id: int | None) -> AsyncIterator[None]:
        """Hold a place for the length of the block. None, the server's own work, may have any. Raises Busy."""
        if self._may(district_id):  # then nobody waits who may as well: `_hand_on` leaves none
            self._take(district_id)
        else:
            await self._turn(district_id)
        try:
            yield
        finally:
            self._give_back(district_id)

    def _may(self, district_id: int | None) -> bool:
        return self._free > (self._kept if district_id in self._held else 0)

    def _take(self, district_id: int | None) -> None:
        self._free -= 1
        if district_id is not None:
            self._held[district_id] = self._held.get(district_id, 0) + 1

    def _give_back(self, district_id: int | None) -> None:
        self._free += 1
        if district_id is not None:
            self._held[district_id] -= 1
            if not self._held[district_id]:
                del self._held[district_id]
        self._hand_on()

    def _hand_on(self) -> None:
        """Give places to those who wait: to the district that holds fewest, and among equals in turn."""
        while self._waiting:
            district_id = min(self._waiting, key=self._holds)
            if not self._may(district_id):
                return  # nor may the others, who hold as many or more
            queue = self._waiting.pop(district_id)
            future = queue.popleft()
            if queue:
                self._waiting[district_id] = queue  # behind the others
            if not future.done():
                self._take(district_id)
                future.set_result(None)

    def _holds(self, district_id: int | None) -> int:
        return 0 if district_id is None else self._held.get(district_id, 0)

    async def _turn(self, district_id: int | None) -> None:
        """Wait until a place has been taken for the caller."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(district_id, deque()).append(future)
        try:
            async with asyncio.timeout(self._timeout):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                self._give_back(district_id)  # it came at the moment when it was no longer wanted
            else:
                self._leave(district_id, future)
            if isinstance(error, TimeoutError):
                raise Busy(self._busy) from error
            raise

    def _leave(self, district_id: int | None, future: asyncio.Future[None]) -> None:
        queue = self._waiting.get(district_id)
        if queue is not None and future in queue:
            queue.remove(future)
            if not queue:
                del self._waiting[district_id]


def write_shares(connections: int, timeout: float) -> Shares:
    """Return the places for writes on a pool of so many connections: half of them, rounded up for a small pool.

    One district has half of these; two where there are two, since a run that is planned holds one for long.
    """
    places = writers(connections)
    words = "Too many changes wait for their turn. Nothing was written; try again in a moment."
    return Shares(places, max(min(2, places), places // 2), timeout, words)


def read_shares(connections: int, timeout: float) -> Shares:
    """Return the places for reads: every connection, of which one district has one less than writes leave.

    Whatever one district's reads and all writes do, a connection is there for the other districts' reads. In a small
    pool a district has two, where that is not all.
    """
    left = connections - writers(connections)
    words = "Too many reads of this district wait for their turn. Try again in a moment."
    return Shares(connections, max(1, min(2, connections - 1), left - 1), timeout, words)
