"""Redacts the messages of plug-ins' exceptions: words that may be about a person are replaced."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from gql_server.db.database_errors import DATABASE_ERRORS, sqlstate
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
_FIXED_ERRORS = ("42", "25006", "57014")
"""PostgreSQL's errors of SQL that is wrong, writes, or took too long. No row was read for their messages: what they say
besides PostgreSQL's own words stands in the SQL. A value is hidden only as a whole word there, or nobody could read
them: short names are parts of `statement` and `household`."""


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
        fixed = isinstance(cause, DATABASE_ERRORS) and sqlstate(cause).startswith(_FIXED_ERRORS)
        if message := await redacted(db, district_id, message, whole_words=fixed):
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


async def redacted(db: Database, district_id: int, text: str, *, whole_words: bool = False) -> str:
    """Return the first line of a text, at most 200 characters, for administrators and the log.

    Hidden are all names, ids and contact points on record in the district, in upper and lower case, and everything
    that looks like an email address or a number of five or more digits. A value is found inside a word too, as in
    `LaneAda`; one of one or two characters must be a whole word, with `whole_words` any must: between letters and
    digits, so that it is found in `lane_ada` too. The result is empty if no word is left.
    """
    lines = text[:_MAX_INPUT_CHARACTERS].encode("utf-8", "replace").decode().strip().splitlines()
    line = "".join(filter(str.isprintable, lines[0] if lines else ""))
    async with db.acquire(district_id) as conn:
        rows = await fetch(conn, "district/values_in", district_id=district_id, text=line)
    for value in sorted((row["value"] for row in rows), key=len, reverse=True):
        line = re.sub(_pattern(value, whole_words), _HIDDEN, line, flags=re.IGNORECASE)
    line = _NUMBER.sub(_HIDDEN, _EMAIL.sub(_HIDDEN, line))[:_MAX_CHARACTERS]
    return line if re.search(r"\w", line) else ""


def _pattern(value: str, whole_words: bool) -> str:
    """Return the regular expression that finds a value on record in a text."""
    if len(value) <= _MAX_SHORT_VALUE:
        return rf"(?<!\w){re.escape(value)}(?!\w)"
    return rf"(?<![^\W_]){re.escape(value)}(?![^\W_])" if whole_words else re.escape(value)
