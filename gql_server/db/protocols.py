"""The small part of asyncpg that the rest of the product sees."""

from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Row(Protocol):
    """A row: columns by name or position."""

    def __getitem__(self, key: str | int, /) -> Any: ...
    def get(self, key: str, default: Any = None, /) -> Any: ...
    def keys(self) -> Iterable[str]: ...
    def values(self) -> Iterable[Any]: ...
    def items(self) -> Iterable[tuple[str, Any]]: ...


class Cursor(Protocol):
    """A cursor inside a transaction, from which rows are fetched many at a time."""

    async def fetch(self, n: int, /) -> Sequence[Row]: ...


class CursorFactory(Protocol):
    """A query that can be iterated row by row, or awaited to get a cursor."""

    def __aiter__(self) -> AsyncIterator[Row]: ...
    def __await__(self) -> Generator[Any, None, Cursor]: ...


class Connection(Protocol):
    """A connection to the database, outside or inside a transaction."""

    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> Sequence[Row]: ...
    async def fetchrow(self, query: str, *args: object, timeout: float | None = None) -> Row | None: ...
    async def fetchval(self, query: str, *args: object, timeout: float | None = None) -> Any: ...
    async def execute(self, query: str, *args: object) -> str: ...
    async def copy_records_to_table(
        self, table_name: str, *, records: Iterable[Sequence[object]], columns: Sequence[str]
    ) -> str: ...
    def cursor(self, query: str, *args: object, prefetch: int | None = None) -> CursorFactory: ...
    def transaction(
        self, *, isolation: Any = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[Any]: ...


class Database(Protocol):
    """A source of connections: the pool, as the rest of the product sees it."""

    @property
    def behind_pooler(self) -> bool:
        """Whether connections go through a pooler in transaction mode."""
        ...

    def acquire(
        self, district_id: int | None = None, *, read: str | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """Give a connection for reads. One district's reads share a part of the connections. None: the server's own.

        `read`: the statement of a client's document that is about to run. See db/prepared.
        Raises Unavailable, Busy and TimedOut.
        """
        ...

    def transaction(
        self, district_id: int | None = None, *, statement_seconds: float | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """Give a connection inside a READ COMMITTED transaction. It commits at the end and rolls back on an error.

        For writes: they have a part of the connections, and one district's writes a part of that. None: the server's
        own work. `statement_seconds`: the limit for one statement, if not the usual one.
        Raises Unavailable, Busy and TimedOut.
        """
        ...

    def autocommit(self, district_id: int | None = None) -> AbstractAsyncContextManager[Connection]:
        """Give a connection for a single statement that writes: it is a READ COMMITTED transaction of its own.

        No round trip lies between the locks that it takes and its commit. Otherwise as `transaction`.
        """
        ...

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Give the payloads that are notified on a channel, until the connection is lost. Behind a pooler: none."""
        ...

    async def close(self) -> None: ...
