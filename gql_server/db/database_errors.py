"""Errors of the database: what each is called outside this package, whose fault it is, whether to try again.

The class of an error is told by its SQLSTATE alone: its words may hold data of people.
"""

import asyncpg
import structlog

from gql_server.db.problems import database_words
from gql_server.errors import Busy, GqlServerError, TimedOut, Unavailable, error_location

LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
)
"""What is raised where there is no connection, or no longer one."""
FAULTS = (TimeoutError, asyncpg.PostgresError, *LOST)

_log = structlog.get_logger(__name__)
_TIMED_OUT = (
    "This took the database longer than it may, and was stopped; nothing was written. Ask for less at once."
)
_LOCKED = "Another change holds what this one needs. Nothing was written; try again in a moment."
_RACED = "Another change got in between. Nothing was written; try again."
_SHORT = "The database is short of connections, memory or disk. Try again; if it goes on, tell who runs the server."
_READ_ONLY = (
    "The database can only be read now. Nothing was written. Tell who runs the server: its database is a standby,"
    " or was made read-only."
)
_FORBIDDEN = (
    "The server may not do this in its database. Nothing was written. Tell who runs the server: the database's user"
    " lacks a right."
)
_FAULTS_OF_STATEMENT = ("21", "22", "23", "25006", "42", "57014", "P0")
_TRANSIENT = ("08", "40", "53", "55P03", "57")
_UNUSABLE = {"25006": _READ_ONLY, "42501": _FORBIDDEN}
_LOST_WORDS = "The connection to the database was lost. Try again."


def translated(error: BaseException) -> GqlServerError | None:
    """Return the error that a fault of the driver is to be told as; None for what is a fault of the statement.

    TimedOut: a statement took too long, by the server's clock or the driver's. Busy: a lock was not had in time, or
    two transactions were in each other's way. Unavailable: the connection or the server is gone, or short of something,
    or it cannot be written, or not by this user.
    """
    state = getattr(error, "sqlstate", None) or ""
    if isinstance(error, TimeoutError) or state in ("57014", "25P03", "25P04"):
        return TimedOut(_TIMED_OUT)
    if state == "55P03":
        return Busy(_LOCKED)
    if state in ("40001", "40P01"):
        return Busy(_RACED)
    if state.startswith("53"):
        _log.error("database_short", sqlstate=state, error=type(error).__name__)
        return Unavailable(_SHORT)
    if state in _UNUSABLE:
        _log.error("database_refuses", sqlstate=state, reason=database_words(error))
        return Unavailable(_UNUSABLE[state])
    if isinstance(error, LOST) or state.startswith("57") or ends_session(error):
        return Unavailable(_LOST_WORDS)
    return None


def ends_session(error: BaseException) -> bool:
    """Return whether an error shows that a connection is not what it is taken for: behind it is another session.

    So it is where a pooler hands connections on, and statements are named all the same.
    """
    return isinstance(error, asyncpg.InvalidSQLStatementNameError | asyncpg.DuplicatePreparedStatementError)


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error of the database, or an empty text for any other error.

    Of what the pool has translated it is the cause's.
    """
    cause = error.__cause__ if isinstance(error, TimedOut | Unavailable) else error
    state = getattr(cause, "sqlstate", None)
    return state if isinstance(state, str) else ""


def error_details(error: BaseException) -> dict[str, str]:
    """Return what a log may hold of an error: its kind, PostgreSQL's reason where there is one, and its place."""
    cause = error.__cause__ if isinstance(error, TimedOut | Unavailable) and error.__cause__ else error
    told = {"error": type(cause).__name__, "where": error_location(cause)}
    if state := sqlstate(error):
        told["sqlstate"] = state
    words = database_words(cause)
    return {**told, "reason": words} if words else told


def lies_in_statement(error: BaseException) -> bool:
    """Return whether the SQL is at fault: it is wrong, it met bad data, or it took too long."""
    return sqlstate(error).startswith(_FAULTS_OF_STATEMENT)


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed later: a deadlock, a lost connection, a restart."""
    if lies_in_statement(error):
        return False
    return isinstance(error, Unavailable | OSError) or sqlstate(error).startswith(_TRANSIENT)
