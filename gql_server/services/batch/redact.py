"""Words that a plug-in's exception says of a fault, without those that may be about a person."""

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
_LONGEST = 200
_READ = 2_000
_SHORT = 2
_EMAIL = re.compile(r"\S+@\S+")
_NUMBER = re.compile(r"\d(?:[ ()./+-]*\d){4,}")

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_OF_DATA = ("21", "22", "23")
"""The classes of PostgreSQL's errors whose words quote values; others quote names of columns and functions."""


async def in_words(db: Database, district_id: int, error: PluginError) -> PluginError:
    """Return the same error with the words of the exception behind it, but for those about people."""
    return error.saying(await _said(db, district_id, error))


async def _said(db: Database, district_id: int, error: PluginError) -> str:
    cause = error.__cause__
    if cause is None:
        return ""
    with suppress(Exception):  # an exception may be at fault itself; its kind is told anyway
        said = str(cause)
        if sqlstate(cause).startswith(_OF_DATA):
            said = _QUOTED.sub(_HIDDEN, said)
        if said := await redacted(db, district_id, said):
            return f" It says: {said}"
    return ""


@asynccontextmanager
async def logging_failures(db: Database, district: District) -> AsyncIterator[None]:
    """Log what a plug-in did wrong in the block, with more words than the caller is told."""
    try:
        yield
    except PluginError as error:
        told, cause = await in_words(db, district.district_id, error), error.__cause__ or error
        _log.error(
            "plugin_failed",
            plugin=error.plugin,
            district=district.code,
            error=str(told),
            where=error_location_in_plugin(cause),
        )
        raise


async def redacted(db: Database, district_id: int, text: str) -> str:
    """Return the first line of a text, at most 200 characters, for administrators and the log; nothing if it says none.

    Hidden are all names, ids and contact points that are on record in the district, in whatever case, and what looks
    like an email address or a number of five digits or more. A value may be part of a word, as in `lane_ada`: only
    one of one or two characters must be a word of its own.
    """
    lines = text[:_READ].encode("utf-8", "replace").decode().strip().splitlines()
    line = "".join(filter(str.isprintable, lines[0] if lines else ""))
    async with db.acquire(district_id) as conn:
        rows = await fetch(conn, "district/values_in", district_id=district_id, text=line)
    for value in sorted((row["value"] for row in rows), key=len, reverse=True):
        whole = re.escape(value) if len(value) > _SHORT else rf"(?<!\w){re.escape(value)}(?!\w)"
        line = re.sub(whole, _HIDDEN, line, flags=re.IGNORECASE)
    line = _NUMBER.sub(_HIDDEN, _EMAIL.sub(_HIDDEN, line))[:_LONGEST]
    return line if re.search(r"\w", line) else ""
