"""Finds the fields whose SQL of plug-ins made a read fail, so that the other fields can be answered."""

import asyncio
from collections.abc import Mapping
from typing import TypeAlias

from gql_server.db.database_errors import is_transient, sqlstate
from gql_server.db.plugin_errors import CANCELED, Fragment, attribute_errors
from gql_server.db.protocols import Connection
from gql_server.db.session_guard import restored_session
from gql_server.db.statements import bind
from gql_server.errors import PluginError
from gql_server.reads.links import PluginPart
from gql_server.reads.selections import ResponsePath

PartsByField: TypeAlias = Mapping[ResponsePath, tuple[PluginPart, ...]]
"""What plug-ins wrote of a statement, by the field that uses it."""


async def failed_fields(
    conn: Connection, error: Exception, parts: PartsByField, args: Mapping[str, object], seconds: float | None
) -> dict[ResponsePath, Exception]:
    """Return the fields whose SQL of plug-ins fails, each with a PluginError that names the first such plug-in.

    The result is empty if the statement failed for another reason: it took too long, or the connection was lost.
    PostgreSQL rarely tells which part of a statement failed, so each part is run alone. That is done only after a
    failure. conn: not inside a transaction. seconds: how long all parts together may take; None for no limit.
    """
    state = sqlstate(error)
    if not parts or not state or state == CANCELED or is_transient(error):
        return {}
    failed: dict[ResponsePath, Exception] = {}
    async with asyncio.timeout(seconds):
        for path, of_field in parts.items():
            if failure := await _first_failure(conn, of_field, args):
                failed[path] = failure
    if not failed and len(parts) == 1:  # no part fails alone, but plug-ins wrote SQL for this field only
        [(path, of_field)] = parts.items()
        fragments = dict.fromkeys(fragment for part in of_field for fragment in part.fragments)
        if failure := _attributed(error, *fragments):
            failed[path] = failure
    return failed


async def _first_failure(
    conn: Connection, parts: tuple[PluginPart, ...], args: Mapping[str, object]
) -> PluginError | None:
    """Run each part alone, and return the error of the first that fails."""
    for part in parts:
        text, values = bind(part.alone, **args)
        try:
            with attribute_errors(*part.fragments):
                async with restored_session(conn):
                    await conn.fetchrow(text, *values)
        except PluginError as failure:
            return failure
    return None


def _attributed(error: Exception, *fragments: Fragment) -> PluginError | None:
    try:
        with attribute_errors(*fragments):
            raise error
    except PluginError as failure:
        return failure
    except Exception:
        return None
