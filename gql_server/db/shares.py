"""Who may write: a share of the connections for all writes, a smaller one for each district's.

Writes wait for locks, reads do not. Whatever holds up one district's writes leaves connections to all reads, and to
the other districts' writes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from gql_server.domain.shares import writers
from gql_server.errors import Busy


class WriteShares:
    """Places for writes on a pool of so many connections: see domain/shares."""

    def __init__(self, connections: int, timeout: float) -> None:
        """`timeout`: for how many seconds a write may wait for its place."""
        places = writers(connections)
        self._timeout = timeout
        self._all = asyncio.Semaphore(places)
        # Two where there are two: a run that is planned holds one for long.
        self._of_one = max(min(2, places), (places + 1) // 2)
        self._districts: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def place(self, district_id: int | None) -> AsyncIterator[None]:
        """Hold a place for the length of the block; None is the server's own work. Raises Busy."""
        district = self._district(district_id)
        taken: list[asyncio.Semaphore] = []
        try:
            try:
                async with asyncio.timeout(self._timeout):
                    # A district that waits for its own places holds no others up.
                    for semaphore in (district, self._all):
                        if semaphore is not None:
                            await semaphore.acquire()
                            taken.append(semaphore)
            except TimeoutError as error:
                whose = "this district" if district is not None and not taken else "the server"
                words = f"Too many changes of {whose} wait for their turn. Nothing was written; try again in a moment."
                raise Busy(words) from error
            yield
        finally:
            for semaphore in taken:
                semaphore.release()

    def _district(self, district_id: int | None) -> asyncio.Semaphore | None:
        if district_id is None:
            return None
        return self._districts.setdefault(
            district_id, asyncio.Semaphore(self._of_one)
        )  # kept while it is used
