"""Finds the fields whose SQL of plug-ins made a read fail, so that the other fields can be answered."""

import asyncio
import itertools
from collections.abc import Mapping
from typing import TypeAlias

import structlog

from gql_server.db.database_errors import is_timeout, is_transient, sqlstate
from gql_server.db.plugin_errors import CANCELED, Fragment, attribute_errors
from gql_server.db.protocols import Connection
from gql_server.db.session_guard import restored_session
from gql_server.db.statements import bind
from gql_server.errors import PluginError
from gql_server.reads.links import PluginPart
from gql_server.reads.selections import ResponsePath

_log = structlog.get_logger(__name__)

PartsByField: TypeAlias = Mapping[ResponsePath, tuple[PluginPart, ...]]
"""What plug-ins wrote of a statement, by the field that uses it."""


async def failed_fields(
    conn: Connection, error: Exception, parts: PartsByField, args: Mapping[str, object], seconds: float | None
) -> dict[ResponsePath, Exception]:
    """Return the fields whose SQL of plug-ins fails, each with a PluginError that names the first such plug-in.

    The result is empty if the statement failed for another reason: it took too long, or the connection was lost.
    PostgreSQL rarely tells which part of a statement failed, so each part is run alone. That is done only after a
    failure. Where no part fails alone, the statement may still fail because of how they fit into it: then each of
    these fields has an error that names all plug-ins whose SQL may be at fault. conn: not inside a transaction.
    seconds: how long all parts together may take; None for no limit.
    """
    state = sqlstate(error)
    if not parts or not state or state == CANCELED or is_transient(error):
        return {}
    failed: dict[ResponsePath, Exception] = {}
    async with asyncio.timeout(seconds):
        for path, of_field in parts.items():
            if failure := await _first_failure(conn, of_field, args):
                failed[path] = failure
    if not failed and (failure := _attributed(error, *_fragments(parts))):
        failed = dict.fromkeys(parts, failure)
    return failed


def log_slow_parts(error: Exception, parts: PartsByField, district: str) -> None:
    """Log whose SQL was in a statement that was stopped because it took too long: any of it may be the reason."""
    fragments = _fragments(parts)
    if fragments and is_timeout(error):
        _log.warning(
            "plugin_sql_timed_out",
            plugins=[*dict.fromkeys(fragment.plugin for fragment in fragments)],
            parts=[fragment.what for fragment in fragments],
            district=district,
        )


def _fragments(parts: PartsByField) -> list[Fragment]:
    """Return what plug-ins wrote in all parts, once each."""
    fragments: list[Fragment] = []
    for part in itertools.chain.from_iterable(parts.values()):
        fragments += [fragment for fragment in part.fragments if fragment not in fragments]
    return fragments


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
