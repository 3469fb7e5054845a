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


class Cursors(Protocol):
    """A query that can be iterated row by row, or awaited to have its cursor."""

    def __aiter__(self) -> AsyncIterator[Row]: ...
    def __await__(self) -> Generator[Any, None, Cursor]: ...


class Connection(Protocol):
    """A connection, outside or inside a transaction."""

    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> Sequence[Row]: ...
    async def fetchrow(self, query: str, *args: object, timeout: float | None = None) -> Row | None: ...
    async def fetchval(self, query: str, *args: object, timeout: float | None = None) -> Any: ...
    async def execute(self, query: str, *args: object) -> str: ...
    async def copy_records_to_table(
        self, table_name: str, *, records: Iterable[Sequence[object]], columns: Sequence[str]
    ) -> str: ...
    def cursor(self, query: str, *args: object, prefetch: int | None = None) -> Cursors: ...
    def transaction(
        self, *, isolation: Any = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[Any]: ...


class Database(Protocol):
    """Where connections come from."""

    @property
    def pooled(self) -> bool:
        """Whether connections go through a pooler that hands them on after each transaction."""
        ...

    def acquire(self, district_id: int | None = None) -> AbstractAsyncContextManager[Connection]:
        """Give a connection for reads, of which those of one district have a share. None: the server's own work.

        Raises Unavailable, Busy and TimedOut.
        """
        ...

    def transaction(
        self, district_id: int | None = None, *, statement_seconds: float | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """Give a connection inside a READ COMMITTED transaction; committed at the end, rolled back on an error.

        For writes: they, and those of one district, have a share of the connections. None: the server's own work.
        `statement_seconds`: how long one statement may take, where that is not what all may.
        Raises Unavailable, Busy and TimedOut.
        """
        ...

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Give the payloads notified on a channel, until the connection that is made for it is lost."""
        ...

    async def close(self) -> None: ...
