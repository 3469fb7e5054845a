"""Names the plug-in whose SQL made a statement fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gql_server.db.database_errors import is_transient, sqlstate
from gql_server.domain.sql import Sql, location_in
from gql_server.errors import PluginError

CANCELED = "57014"
"""The SQLSTATE of a statement that took too long."""


class SeveralSuspects(PluginError):
    """SQL that several plug-ins or rules share has failed, and the database does not tell whose part of it."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """SQL of a plug-in. what: its name in an error, such as "rule 'quiet'"."""

    plugin: str
    what: str
    sql: Sql | None


@contextmanager
def attribute_errors(*fragments: Fragment, seconds: float | None = None) -> Iterator[None]:
    """Turn an error of a statement that contains these fragments into a PluginError that names the plug-in.

    Its message has the line and column in the plug-in's own SQL, if PostgreSQL reports a position, but no SQL and no
    data; PostgreSQL's message is that of its cause. A transient error, such as a lost connection, is raised as it is.
    Raises SeveralSuspects where any of several fragments may be at fault. seconds: the limit that the connection sets
    for a statement, if the error should name it.
    """
    try:
        yield
    except Exception as error:
        state = sqlstate(error)
        if fragments and state == CANCELED and seconds is not None:
            raise plugin_error(fragments, too_long(seconds)) from error
        if fragments and state and (state == CANCELED or not is_transient(error)):
            raise _located(fragments, error, state) from error
        raise


def _located(fragments: tuple[Fragment, ...], error: Exception, state: str) -> PluginError:
    position, query = getattr(error, "position", None), getattr(error, "query", None)
    if position and query:
        for fragment in fragments:
            found = fragment.sql and location_in(fragment.sql.text, query, int(position))
            if found:
                line, column = found
                problem = f"failed in the database ({state}, line {line}, column {column} of its SQL)."
                return plugin_error((fragment,), problem)
    return plugin_error(fragments, f"failed in the database ({state}).")


def too_long(seconds: float) -> str:
    """Return the problem of SQL that was stopped after so many seconds."""
    return f"took longer than {seconds:g} s in the database."


def plugin_error(fragments: tuple[Fragment, ...], problem: str) -> PluginError:
    """Return the error that names the plug-ins of the fragments. It is SeveralSuspects if there are several."""
    plugins = ", ".join(dict.fromkeys(fragment.plugin for fragment in fragments))
    first, *others = (fragment.what for fragment in fragments)
    suspects = " or ".join([first, *(other.removeprefix("rule ") for other in others)])
    return (SeveralSuspects if others else PluginError)(plugins, f"{suspects} {problem}")
