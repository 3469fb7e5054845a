"""Runs rules in Python in a thread of their own, and gives them a reader of the district's data."""

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
from gql_server.domain.sql import Sql, location_in
from gql_server.hooks import Candidate
from gql_server.hooks.threads import PluginThread, require_responsive, result_or_error
from gql_server.hooks.types import Check
from gql_server.hooks.validation import reader_sql_problem

_CLOSED = "The check has answered, or has run out of time: its reader reads no more."

_REFUSED = ("25006", "42501")
"""SQLSTATEs of what a check may not do, such as to write. Outside of a check they are faults of the installation."""


def where_in_sql(error: BaseException) -> str:
    """Return words for the SQLSTATE, line and column of an error in the SQL that a check sent through its reader."""
    state, location = sqlstate(error), getattr(error, "location_in_sql", None)
    if not state:
        return ""
    return f" ({state}, line {location[0]}, column {location[1]} of its SQL)" if location else f" ({state})"


def _locate(error: Exception, sql: str) -> None:
    """Attach the line and column in the check's SQL to an error: whoever reports it does not have that SQL."""
    position, query = getattr(error, "position", None), getattr(error, "query", None)
    if position and query:
        error.location_in_sql = location_in(sql, query, int(position))  # type: ignore[attr-defined]


class _Refused(Exception):
    """Carries an error of PostgreSQL out of the pool, which would take it for a fault of the database."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@dataclass(frozen=True, slots=True)
class DistrictData:
    """Reads one district's data for checks: read-only, in a restored session. No connection is held in between."""

    db: Database
    district_id: int
    today: date

    async def fetch(self, sql: str, args: Mapping[str, object]) -> Sequence[Row]:
        if wrong := reader_sql_problem(sql, args):
            raise ValueError(wrong)
        try:
            async with self.db.acquire(self.district_id) as conn, restored_session(conn):
                try:
                    return await fetch(conn, Sql(sql, args), district_id=self.district_id, today=self.today)
                except Exception as error:
                    _locate(error, sql)
                    if sqlstate(error) in _REFUSED:
                        raise _Refused(error) from error
                    raise
        except _Refused as refused:
            refusal = refused.error
        raise refusal


class CheckThread(PluginThread):
    """A thread for the checks of one plug-in, one chunk after another."""

    def __init__(self, plugin: str, data: DistrictData) -> None:
        """Raises PluginError where too many of the plug-in's calls have not come back."""
        require_responsive(plugin)
        super().__init__(f"checks: {plugin}")
        self._plugin, self._data = plugin, data

    async def ask(self, check: Check, candidates: Sequence[Candidate]) -> object:
        """Return what a check answers, whatever it is. Raises PluginRaised. When cancelled, abandon the check."""
        reader = _ThreadReader(self._data)
        asked = tuple(candidates)
        try:
            return await self.run(lambda: check(asked, reader), lambda: self._plugin)
        finally:
            reader.close()


class _ThreadReader:
    """The `DistrictReader` of one call of a check. Its statements run on the server's loop, to which the
    connections belong."""

    def __init__(self, data: DistrictData) -> None:
        self._data = data
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._reads: set[Future[Any]] = set()
        self._closed = False

    async def fetch(self, sql: str, **args: object) -> Sequence[Mapping[str, object]]:
        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            read = asyncio.run_coroutine_threadsafe(
                result_or_error(lambda: self._data.fetch(sql, args)), self._loop
            )
            self._reads.add(read)
        try:
            rows, error = await asyncio.wrap_future(read)
        finally:
            self._reads.discard(read)
        if error is not None:
            raise error
        return [dict(row.items()) for row in rows]  # in this thread, where many rows delay nobody else

    def close(self) -> None:
        """Refuse further reads, and cancel those that are still running."""
        with self._lock:
            self._closed = True
        for read in list(self._reads):
            read.cancel()
