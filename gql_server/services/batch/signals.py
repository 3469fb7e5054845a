"""Signals that a run has moved, from whichever process moved it to whoever watches it, by NOTIFY.

A signal is a hint to look, and no more: it may be lost with a connection, and a pooler may hand on none. Whoever
watches looks from time to time anyway.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import fetch
from gql_server.errors import error_location

_log = structlog.get_logger(__name__)
CHANNEL = "gql_server_batch_run"
_PAUSE_SECONDS = 1.0


async def wait_for_signal(moved: asyncio.Event, seconds: float) -> None:
    """Wait for a signal, but no longer than so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await moved.wait()
    moved.clear()


async def notify_moved(conn: Connection, *, district_id: int, batch_run_id: int) -> None:
    """Let all who watch a run hear that it has moved, when the transaction has been committed."""
    await fetch(conn, "batch/run/notify", channel=CHANNEL, district_id=district_id, batch_run_id=batch_run_id)


class RunSignals:
    """Hears of the runs that move, on one connection of this process, and tells those who watch them here."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._watched: dict[str, list[asyncio.Event]] = {}

    @contextmanager
    def watch(self, district_id: int, batch_run_id: int) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the run may have moved on. Clear it to hear of the next time."""
        event, key = asyncio.Event(), f"{district_id} {batch_run_id}"
        self._watched.setdefault(key, []).append(event)
        try:
            yield event
        finally:
            self._watched[key].remove(event)
            if not self._watched[key]:
                del self._watched[key]

    async def run(self) -> None:
        """Listen until cancelled. A lost connection is logged once, and made anew until there is one."""
        listening = True
        while True:
            cause = "ConnectionLost"
            try:
                async with self._db.listen(CHANNEL) as payloads:
                    if not listening:
                        _log.info("batch_signals_heard_again")
                    listening = True
                    self._tell_all()  # what was told before is missed
                    async for payload in payloads:
                        self._tell(payload)
            except Exception as error:
                cause = f"{type(error).__name__} {error_location(error)}"
            if listening:
                _log.warning("batch_signals_not_heard", error=cause)
            listening = False
            await asyncio.sleep(_PAUSE_SECONDS)

    def _tell(self, payload: str) -> None:
        for event in self._watched.get(payload, ()):
            event.set()

    def _tell_all(self) -> None:
        for payload in self._watched:
            self._tell(payload)
