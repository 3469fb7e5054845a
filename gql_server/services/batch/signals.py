"""Signals from the process that changes a run's state to the processes where it is watched, by NOTIFY.

A signal is only a hint that the state should be read again. Signals are lost with a connection, and a pooler forwards
none, so watchers poll as well.
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


async def wait_for_signal(changed: asyncio.Event, seconds: float) -> None:
    """Wait for a signal, but at most that many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()
    changed.clear()


async def notify_run_changed(conn: Connection, *, district_id: int, batch_run_id: int) -> None:
    """Signal to all watchers of a run that its state has changed, once the transaction is committed."""
    await fetch(conn, "batch/run/notify", channel=CHANNEL, district_id=district_id, batch_run_id=batch_run_id)


class RunSignals:
    """Receives the signals on one connection of this process, and forwards them to the watchers in this process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._watched: dict[str, list[asyncio.Event]] = {}

    @contextmanager
    def watch(self, district_id: int, batch_run_id: int) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the run's state may have changed. The watcher clears it."""
        event, key = asyncio.Event(), f"{district_id} {batch_run_id}"
        self._watched.setdefault(key, []).append(event)
        try:
            yield event
        finally:
            self._watched[key].remove(event)
            if not self._watched[key]:
                del self._watched[key]

    async def run(self) -> None:
        """Listen until cancelled. A lost connection is logged once, and connecting is retried until it succeeds."""
        listening = True
        while True:
            cause = "ConnectionLost"
            try:
                async with self._db.listen(CHANNEL) as payloads:
                    if not listening:
                        _log.info("batch_signals_restored")
                    listening = True
                    self._wake_all()  # signals sent before are missed
                    async for payload in payloads:
                        self._wake(payload)
            except Exception as error:
                cause = f"{type(error).__name__} {error_location(error)}"
            if listening:
                _log.warning("batch_signals_lost", error=cause)
            listening = False
            await asyncio.sleep(_PAUSE_SECONDS)

    def _wake(self, payload: str) -> None:
        for event in self._watched.get(payload, ()):
            event.set()

    def _wake_all(self) -> None:
        for payload in self._watched:
            self._wake(payload)
