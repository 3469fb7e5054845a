"""Lends checks a reader, in a thread of their own."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date
from typing import Any

from gql_server.db.database_errors import sqlstate
from gql_server.db.protocols import Database, Row
from gql_server.db.session_guard import restored_session
from gql_server.db.statements import fetch
from gql_server.domain.sql import Sql, place_in
from gql_server.hooks import Candidate
from gql_server.hooks.threads import PluginThread, require_responsive, result_or_error
from gql_server.hooks.types import Check
from gql_server.hooks.validation import reader_sql_problem

_TAKEN_BACK = "The check was given up, or has answered: its reader reads no more."


def where_in_sql(error: BaseException) -> str:
    """Return words for where in a check's own SQL an error of the database lies, if it came by a reader."""
    state, place = sqlstate(error), getattr(error, "place_in_look", None)
    if not state:
        return ""
    return f" ({state}, line {place[0]}, column {place[1]} of its SQL)" if place else f" ({state})"


def _locate(error: Exception, sql: str) -> None:
    """Note where in the SQL of a check an error lies: whoever tells of it does not know that SQL."""
    position, query = getattr(error, "position", None), getattr(error, "query", None)
    if position and query:
        error.place_in_look = place_in(sql, query, int(position))  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class DistrictData:
    """What checks may read: each look only reads, what it sets is undone, and between looks no connection is held."""

    db: Database
    district_id: int
    today: date

    async def fetch(self, sql: str, args: Mapping[str, object]) -> Sequence[Row]:
        if wrong := reader_sql_problem(sql):
            raise ValueError(wrong)
        async with self.db.acquire(self.district_id) as conn, restored_session(conn):
            try:
                return await fetch(conn, Sql(sql, args), district_id=self.district_id, today=self.today)
            except Exception as error:
                _locate(error, sql)
                raise


class CheckThread(PluginThread):
    """A thread for the checks of one plug-in, one chunk after another."""

    def __init__(self, plugin: str, data: DistrictData) -> None:
        """Raise PluginError where too many of the plug-in's calls are stuck."""
        require_responsive(plugin)
        super().__init__(f"checks: {plugin}")
        self._plugin, self._data = plugin, data

    async def ask(self, check: Check, candidates: Sequence[Candidate]) -> object:
        """Return what a check answers, whatever it is; cancelled, give the check up. Raises PluginRaised."""
        reader = _LentReader(self._data)
        asked = tuple(candidates)
        try:
            return await self.run(lambda: check(asked, reader), lambda: self._plugin)
        finally:
            reader.take_back()


class _LentReader:
    """The `DistrictReader` of one call of a check. It reads on the server's loop, to which the connections belong."""

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
            look = asyncio.run_coroutine_threadsafe(
                result_or_error(lambda: self._data.fetch(sql, args)), self._loop
            )
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
