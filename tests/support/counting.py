"""A database that counts the statements sent to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from gql_server.db.protocols import Connection, Database


class CountingDatabase:
    """Passes everything on to a pool, and keeps the text of each statement but the frames of transactions."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.statements: list[str] = []

    def _log(self, record: Any) -> None:
        if not record.query.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            self.statements.append(record.query)

    @asynccontextmanager
    async def acquire(
        self, district_id: int | None = None, *, read: str | None = None
    ) -> AsyncIterator[Connection]:
        async with self._inner.acquire(district_id, read=read) as conn:
            conn.add_query_logger(self._log)  # type: ignore[attr-defined]
            try:
                yield conn
            finally:
                conn.remove_query_logger(self._log)  # type: ignore[attr-defined]
                await asyncio.sleep(0)  # the driver tells of a statement in the loop's next turn

    @property
    def behind_pooler(self) -> bool:
        return self._inner.behind_pooler

    @asynccontextmanager
    async def transaction(
        self, district_id: int | None = None, *, statement_seconds: float | None = None
    ) -> AsyncIterator[Connection]:
        async with self.acquire() as conn, conn.transaction():
            yield conn

    def autocommit(self, district_id: int | None = None) -> AbstractAsyncContextManager[Connection]:
        return self.acquire()

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        return self._inner.listen(channel)

    async def close(self) -> None:
        await self._inner.close()
