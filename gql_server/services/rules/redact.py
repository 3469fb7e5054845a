"""Redacts the messages of plug-ins' exceptions: words that may be about a person are replaced."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from gql_server.db.database_errors import sqlstate
from gql_server.db.protocols import Database
from gql_server.db.statements import fetch
from gql_server.domain.viewer import District
from gql_server.errors import PluginError, error_location_in_plugin

_log = structlog.get_logger(__name__)
_HIDDEN = "…"
_MAX_CHARACTERS = 200
_MAX_INPUT_CHARACTERS = 2_000
_MAX_SHORT_VALUE = 2
_EMAIL = re.compile(r"\S+@\S+")
_NUMBER = re.compile(r"\d(?:[ ()./+-]*\d){4,}")

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_DATA_ERRORS = ("21", "22", "23")
"""The classes of PostgreSQL's errors whose messages quote values; others quote names of columns and functions."""


async def with_reason(db: Database, district_id: int, error: PluginError) -> PluginError:
    """Return the same error with the redacted message of the exception that caused it."""
    return error.with_details(await _cause_message(db, district_id, error))


async def _cause_message(db: Database, district_id: int, error: PluginError) -> str:
    cause = error.__cause__
    if cause is None:
        return ""
    with suppress(Exception):  # str() of the plug-in's exception may fail; the error names its type anyway
        message = str(cause)
        if sqlstate(cause).startswith(_DATA_ERRORS):
            message = _QUOTED.sub(_HIDDEN, message)
        if message := await redacted(db, district_id, message):
            return f" It says: {message}"
    return ""


@asynccontextmanager
async def log_plugin_failures(db: Database, district: District) -> AsyncIterator[None]:
    """Log a PluginError of the block with its reason, which the caller is not told, and raise it again."""
    try:
        yield
    except PluginError as error:
        await log_plugin_failure(db, district, error)
        raise


async def log_plugin_failure(db: Database, district: District, error: PluginError) -> None:
    """Log the failure of a plug-in with its reason."""
    explained, cause = await with_reason(db, district.district_id, error), error.__cause__ or error
    _log.error(
        "plugin_failed",
        plugin=error.plugin,
        district=district.code,
        error=str(explained),
        where=error_location_in_plugin(cause),
    )


async def redacted(db: Database, district_id: int, text: str) -> str:
    """Return the first line of a text, at most 200 characters, for administrators and the log.

    Hidden are all names, ids and contact points on record in the district, in upper and lower case, and everything
    that looks like an email address or a number of five or more digits. A value is found inside a word too, as in
    `lane_ada`; one of one or two characters must be a whole word. The result is empty if no word is left.
    """
    lines = text[:_MAX_INPUT_CHARACTERS].encode("utf-8", "replace").decode().strip().splitlines()
    line = "".join(filter(str.isprintable, lines[0] if lines else ""))
    async with db.acquire(district_id) as conn:
        rows = await fetch(conn, "district/values_in", district_id=district_id, text=line)
    for value in sorted((row["value"] for row in rows), key=len, reverse=True):
        escaped = re.escape(value)
        pattern = escaped if len(value) > _MAX_SHORT_VALUE else rf"(?<!\w){escaped}(?!\w)"
        line = re.sub(pattern, _HIDDEN, line, flags=re.IGNORECASE)
    line = _NUMBER.sub(_HIDDEN, _EMAIL.sub(_HIDDEN, line))[:_MAX_CHARACTERS]
    return line if re.search(r"\w", line) else ""
