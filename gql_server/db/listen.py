"""PostgreSQL's notifications, received on a connection that does nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from gql_server.db.protocols import Connection

_PROBE_SECONDS = 30.0
"""After so long without a notification the connection is probed: the system may not report that it was lost."""


@asynccontextmanager
async def listening(conn: Connection, channel: str) -> AsyncIterator[AsyncIterator[str]]:
    """Give the payloads that are notified on a channel from now on. They end when the connection is lost.

    The connection is terminated at the end of the block.
    """
    driver = cast(Any, conn)
    received: asyncio.Queue[str | None] = asyncio.Queue()
    driver.add_termination_listener(lambda _: received.put_nowait(None))
    try:
        await driver.add_listener(channel, lambda *notification: received.put_nowait(notification[-1]))
        yield _payloads(conn, received)
    finally:
        driver.terminate()  # close() would wait for a server that may not answer


async def _payloads(conn: Connection, received: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    while True:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                payload = await received.get()
        except TimeoutError:
            async with asyncio.timeout(_PROBE_SECONDS):
                await conn.execute("select")
            continue
        if payload is None:
            return
        yield payload


async def no_payloads() -> AsyncIterator[str]:
    """Wait for ever without a payload: behind a pooler no notification arrives."""
    await asyncio.Event().wait()
    yield ""  # never reached
