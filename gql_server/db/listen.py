"""Notifications of PostgreSQL, heard on a connection that does nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from gql_server.db.protocols import Connection

_PROBE_SECONDS = 30.0
"""How long it may be silent before the connection is asked whether it is still there: a lost one need not say so."""


@asynccontextmanager
async def listening(conn: Connection, channel: str) -> AsyncIterator[AsyncIterator[str]]:
    """Give the payloads that are notified on a channel from now on; they end when the connection is lost.

    At the end of the block the connection is cut.
    """
    driver = cast(Any, conn)
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    driver.add_termination_listener(lambda _: heard.put_nowait(None))
    try:
        await driver.add_listener(channel, lambda *told: heard.put_nowait(told[-1]))
        yield _payloads(conn, heard)
    finally:
        driver.terminate()  # a graceful end would wait for a PostgreSQL that may stand still


async def _payloads(conn: Connection, heard: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    while True:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                payload = await heard.get()
        except TimeoutError:
            async with asyncio.timeout(_PROBE_SECONDS):
                await conn.execute("select")
            continue
        if payload is None:
            return
        yield payload


async def silence() -> AsyncIterator[str]:
    """Give payloads of which none ever comes, as where nothing can be heard."""
    await asyncio.Event().wait()
    yield ""  # never reached
