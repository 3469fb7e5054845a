"""Bounds the memory that PostgreSQL keeps for the statements that clients' documents become.

PostgreSQL keeps the trees and the plan of a prepared statement in the private memory of each connection's process:
three quarters of a megabyte for a typical read. Clients may send any number of documents. So each connection has a
budget, of which the longest read that was planned there has taken its part for good. A read is prepared only if there
is room in the rest, or if it is used more than what makes room for it. All other reads run unnamed: PostgreSQL plans
them anew, and frees the memory at once, for the next one. The pool gives a read a connection
that has it prepared, and waits for it a little, so that together the connections hold as many as possible.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from typing import Any

BYTES_PER_CHARACTER = 110
"""Memory of a prepared read for each character of its text. Measured: 60 before its plan is kept, and 70 to 90 with it.
The rest is what the process cannot use again of the memory that was freed."""
BYTES_TO_PLAN = 300
"""Memory that planning a read takes for each character of its text. Measured: 210 to 280. The process frees it, but
does not give it back to the system."""
_FIRST_USE_PREPARED = 2
"""A read is prepared from this use on: most documents that are seen once are never seen again."""
_USES_OF_COPY = 16
"""A read is prepared on one more connection if then each of them has at least so many of its uses."""
_MARGIN = 2
"""How many more uses than another one a read must have to replace it. Reads that take turns then keep their places."""
_MAX_COUNTED = 4_096
_USES_BETWEEN_HALVINGS = 16_384
"""After so many uses all counts are halved, so that what was used long ago makes room."""


class PreparedReads:
    """The reads that are prepared on the connections of one pool. `max_bytes`: the budget of each connection."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._uses: OrderedDict[int, int] = OrderedDict()
        self._uses_since_halving = 0
        self._connections: dict[str, set[ConnectionReads]] = {}

    def count_use(self, text: str) -> None:
        """Count that a read is about to run."""
        key = hash(text)
        self._uses[key] = self._uses.get(key, 0) + 1
        self._uses.move_to_end(key)
        if len(self._uses) > _MAX_COUNTED:
            self._uses.popitem(last=False)
        self._uses_since_halving += 1
        if self._uses_since_halving >= _USES_BETWEEN_HALVINGS:
            self._uses_since_halving = 0
            self._uses = OrderedDict((key, uses // 2) for key, uses in self._uses.items() if uses > 1)

    def connections(self, text: str) -> Collection["ConnectionReads"]:
        """Return the connections on which a read is prepared."""
        return self._connections.get(text, ())

    def is_worth_preparing(self, text: str) -> bool:
        """Tell whether a read is used so often that it shall be prepared on one more connection with room."""
        copies = len(self.connections(text))
        return _size(text) + _size_to_plan(text) <= self.max_bytes and self.uses(text, copies + 1) >= (
            _USES_OF_COPY if copies else _FIRST_USE_PREPARED
        )

    def uses(self, text: str, connections: int) -> float:
        """Return the uses of a read that each of so many connections has, if they share them."""
        return self._uses.get(hash(text), 0) / connections

    def add(self, text: str, reads: "ConnectionReads") -> None:
        self._connections.setdefault(text, set()).add(reads)

    def remove(self, text: str, reads: "ConnectionReads") -> None:
        others = self._connections.get(text)
        if others is not None:
            others.discard(reads)
            if not others:
                del self._connections[text]


class ConnectionReads:
    """The reads that are prepared on one connection.

    current: the text of the read for which the connection is in use; None while it is used for something else.
    waiter: is done when the connection is free; None if nobody waits for it.
    """

    def __init__(self, pool: PreparedReads) -> None:
        self._pool = pool
        self._statements: OrderedDict[str, Any] = OrderedDict()
        self._bytes = 0
        self._bytes_to_plan = 0
        self.current: str | None = None
        self.waiter: asyncio.Future[None] | None = None

    async def wait_until_free(self, seconds: float) -> None:
        """Wait until the connection is free, or so long. Only one at a time may wait."""
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.waiter
        finally:
            self.waiter = None

    def release(self) -> None:
        """Say that the connection is free, after whatever it was used for."""
        self.current = None
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    @property
    def bytes(self) -> int:
        """The memory that PostgreSQL keeps for them, as estimated. It never exceeds the budget."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._statements)

    def has_room(self, text: str) -> bool:
        return self._bytes + _size(text) <= self._room(text)

    def get(self, text: str) -> Any | None:
        """Return the prepared statement of a read, if there is one that the server has not closed."""
        statement = self._statements.get(text)
        if statement is None:
            return None
        if statement.closed:
            self._remove(text)
            return None
        self._statements.move_to_end(text)
        return statement

    def make_room(self, text: str) -> list[Any] | None:
        """Return the statements to close so that a read can be prepared; None if it shall run unnamed.

        Those used least go first, and of equals the one that was used longest ago.
        """
        pool, size = self._pool, _size(text)
        if not pool.is_worth_preparing(text):
            return None
        copies = len(pool.connections(text))
        worth, freed = pool.uses(text, copies + 1) - _MARGIN, 0
        closed: list[str] = []
        if not self.has_room(text):
            by_worth, room = sorted(self._statements, key=self._worth), self._room(text)
            while self._bytes - freed + size > room:
                if len(closed) == len(by_worth) or self._worth(by_worth[len(closed)]) >= worth:
                    return None
                closed.append(by_worth[len(closed)])
                freed += _size(closed[-1])
        return [self._remove(other) for other in closed]

    def plan(self, text: str) -> list[Any]:
        """Record that a read is planned on the connection. Return the statements to close, which have no room now."""
        self._bytes_to_plan = max(self._bytes_to_plan, _size_to_plan(text))
        by_worth = sorted(self._statements, key=self._worth) if self._bytes > self._room(text) else []
        closed = []
        while by_worth and self._bytes > self._room(text):
            closed.append(self._remove(by_worth.pop(0)))
        return closed

    def put(self, text: str, statement: Any) -> None:
        self._statements[text] = statement
        self._bytes += _size(text)
        self._pool.add(text, self)

    def clear(self) -> list[Any]:
        """Forget all statements, and return them."""
        return [self._remove(text) for text in list(self._statements)]

    def _room(self, text: str) -> int:
        """Return the memory that prepared reads may take when a read has been planned on the connection."""
        return self._pool.max_bytes - max(self._bytes_to_plan, _size_to_plan(text))

    def _worth(self, text: str) -> float:
        return self._pool.uses(text, len(self._pool.connections(text)))

    def _remove(self, text: str) -> Any:
        self._bytes -= _size(text)
        self._pool.remove(text, self)
        return self._statements.pop(text)


def _size(text: str) -> int:
    return BYTES_PER_CHARACTER * len(text)


def _size_to_plan(text: str) -> int:
    return BYTES_TO_PLAN * len(text)
