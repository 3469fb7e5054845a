"""Awaits checks in a thread of their own: whatever they do there, the server's event loop goes on."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Self

import structlog

from gql_server.db.protocols import Database, Row
from gql_server.db.statements import fetch
from gql_server.domain.sql import Sql
from gql_server.errors import PluginError, place
from gql_server.hooks import Candidate
from gql_server.hooks.types import Check

MOST_STUCK = 20
"""How many threads that never came back a plug-in may leave behind before it is asked no more."""
_TAKEN_BACK = "The check was given up, or has answered: its reader reads no more."

_log = structlog.get_logger(__name__)


class CheckFailed(Exception):
    """A check raised `error`. A wrapper, so that its TimeoutError or CancelledError is not taken for the server's."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


@dataclass(frozen=True, slots=True)
class DistrictData:
    """What checks may read: each look is a read-only transaction, and between looks no connection is held."""

    db: Database
    district_id: int
    today: date

    async def fetch(self, sql: str, args: Mapping[str, object]) -> Sequence[Row]:
        async with self.db.acquire() as conn, conn.transaction(readonly=True):
            return await fetch(conn, Sql(sql, args), district_id=self.district_id, today=self.today)


class CheckThread:
    """A daemon thread with an event loop, for the checks of one plug-in, one chunk after another.

    A context manager of the server's loop. At its end the thread ends too, and with it whatever the check left
    running; a check that blocks the thread for ever keeps neither the block nor the process from ending.
    """

    def __init__(self, plugin: str, data: DistrictData) -> None:
        """Raise PluginError where too many of the plug-in's threads are stuck."""
        self._data = data
        self._given_up = f"given up: {plugin}"
        if sum(thread.name == self._given_up for thread in threading.enumerate()) >= MOST_STUCK:
            words = f"{MOST_STUCK} of its checks have not come back. Mend it, then restart the server."
            raise PluginError(plugin, words)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_left_behind)
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name=f"checks: {plugin}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # a check can have stopped its loop
            self._loop.call_soon_threadsafe(self._ended.set)

    async def ask(self, check: Check, candidates: Sequence[Candidate]) -> object:
        """Return what a check answers, whatever it is; cancelled, give the check up. Raises CheckFailed."""
        reader = _LentReader(self._data)
        outcome = _outcome(lambda: check(candidates, reader))
        try:
            answer, error = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(outcome, self._loop))
        except asyncio.CancelledError:
            self._thread.name = self._given_up
            raise
        finally:
            reader.take_back()
        if error is not None:
            raise CheckFailed(error)
        return answer

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_ended())

    async def _until_ended(self) -> None:
        await self._ended.wait()


class _LentReader:
    """The `Reader` of one call of a check. It reads on the server's loop, to which the connections belong."""

    def __init__(self, data: DistrictData) -> None:
        self._data = data
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._looks: set[Future[Any]] = set()
        self._taken_back = False

    async def fetch(self, sql: str, **args: object) -> Sequence[Mapping[str, object]]:
        with self._lock:
            if self._taken_back:
                raise RuntimeError(_TAKEN_BACK)
            look = asyncio.run_coroutine_threadsafe(_outcome(lambda: self._data.fetch(sql, args)), self._loop)
            self._looks.add(look)
        try:
            rows, error = await asyncio.wrap_future(look)
        finally:
            self._looks.discard(look)
        if error is not None:
            raise error
        return [dict(row.items()) for row in rows]  # here, where many rows hold up nobody else

    def take_back(self) -> None:
        """Refuse every further look, and stop those that go on."""
        with self._lock:
            self._taken_back = True
        for look in list(self._looks):
            look.cancel()


async def _outcome(call: Callable[[], Awaitable[object]]) -> tuple[Any, BaseException | None]:
    """Return what is awaited, or what it raises: an exception that nobody is left to hear would be logged whole."""
    try:
        return await call(), None
    except BaseException as error:
        return None, error


def _log_left_behind(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log the error of a task that a check has left behind, without its words: they may be about a person."""
    error = context.get("exception")
    if error is not None:
        _log.warning("check_left_error", error=type(error).__name__, where=place(error))
