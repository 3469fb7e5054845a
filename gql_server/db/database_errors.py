"""What an error of PostgreSQL or of its driver means: the product's own error, whose fault it is, whether to retry.

Errors are classified by their SQLSTATE alone. Their messages may hold people's data, so a message is repeated only
for the classes whose messages name parts of the schema and no values.
"""

import asyncpg
import structlog

from gql_server.errors import Busy, GqlServerError, TimedOut, Unavailable, error_location

CONNECTION_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
)
"""Errors that are raised if a connection cannot be made, or was lost."""
DATABASE_ERRORS = (TimeoutError, asyncpg.PostgresError, *CONNECTION_LOST)

_log = structlog.get_logger(__name__)
_TIMED_OUT_MESSAGE = (
    "The database took longer than the limit and was stopped; nothing was written. Ask for less at once."
)
_LOCKED_MESSAGE = "Another change holds a lock that is needed. Nothing was written; try again in a moment."
_CONFLICT_MESSAGE = "Another change was made at the same time. Nothing was written; try again."
_SHORTAGE_MESSAGE = (
    "The database is short of connections, memory or disk space. Try again; if this goes on, tell the operator of the"
    " server."
)
_READ_ONLY_MESSAGE = (
    "The database is read-only now. Nothing was written. Tell the operator of the server: its database is a standby,"
    " or was made read-only."
)
_FORBIDDEN_MESSAGE = (
    "The server lacks a right in its database. Nothing was written. Tell the operator of the server: the database"
    " user needs that right."
)
_CONNECTION_LOST_MESSAGE = "The connection to the database was lost. Try again."
# These lists hold SQLSTATEs, or the first characters of SQLSTATEs.
_STATEMENT_FAULTS = ("21", "22", "23", "25006", "42", "57014", "P0")
_TRANSIENT = ("08", "40", "53", "55P03", "57")
_TIMEOUTS = ("57014", "25P03", "25P04")
_REFUSALS = {"25006": _READ_ONLY_MESSAGE, "42501": _FORBIDDEN_MESSAGE}

_ADVICE: dict[type[BaseException], str] = {
    asyncpg.InsufficientPrivilegeError: "The user of GQL_SERVER_DATABASE_URL needs that right.",
    asyncpg.LockNotAvailableError: "Another transaction holds a lock that is needed. Try again.",
    asyncpg.QueryCanceledError: "It took longer than the database allows. Try again when the database is less busy.",
    asyncpg.InsufficientResourcesError: "The database has run out of space or connections. Free some, and try again.",
    asyncpg.ReadOnlySQLTransactionError: "This database is read-only. Name the primary server.",
    asyncpg.UndefinedTableError: "Is this the right database, and is it migrated? `gql-server migrate` does that.",
    asyncpg.UndefinedColumnError: "Is it migrated? `gql-server migrate` does that.",
    asyncpg.InvalidSchemaNameError: "Is this the right database, with a schema to make tables in?",
    asyncpg.OperatorInterventionError: "The database is stopping or starting. Try again.",
    asyncpg.PostgresConnectionError: _CONNECTION_LOST_MESSAGE,
}
"""Errors whose messages name parts of the schema and no values, each with advice for whoever ran a command."""


def translated(error: BaseException) -> GqlServerError | None:
    """Return the error to raise instead of a database error, or None if the statement itself is at fault.

    TimedOut: a statement took too long, by PostgreSQL's clock or the driver's. Busy: a lock was not granted in time,
    or two transactions conflicted. Unavailable: the connection or the server is gone, the database is short of
    something, or it refuses writes, or refuses this user.
    """
    state = getattr(error, "sqlstate", None) or ""
    if is_timeout(error):
        return TimedOut(_TIMED_OUT_MESSAGE)
    if state == "55P03":
        return Busy(_LOCKED_MESSAGE)
    if state in ("40001", "40P01"):
        return Busy(_CONFLICT_MESSAGE)
    if state.startswith("53"):
        _log.error("database_resources_exhausted", sqlstate=state, error=type(error).__name__)
        return Unavailable(_SHORTAGE_MESSAGE)
    if state in _REFUSALS:
        _log.error("database_access_refused", sqlstate=state, reason=safe_message(error))
        return Unavailable(_REFUSALS[state])
    if isinstance(error, CONNECTION_LOST) or state.startswith("57") or is_session_mismatch(error):
        return Unavailable(_CONNECTION_LOST_MESSAGE)
    return None


def is_session_mismatch(error: BaseException) -> bool:
    """Return whether an error shows that the connection now leads to another session than before.

    That happens when a pooler hands connections on while the driver uses named statements.
    """
    return isinstance(error, asyncpg.InvalidSQLStatementNameError | asyncpg.DuplicatePreparedStatementError)


def is_timeout(error: BaseException) -> bool:
    """Return whether a statement took too long, by PostgreSQL's clock or the driver's."""
    return isinstance(error, TimeoutError) or getattr(error, "sqlstate", None) in _TIMEOUTS


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether a statement ended because it waited for a lock for longer than `lock_timeout`."""
    return isinstance(error, asyncpg.LockNotAvailableError)


def is_duplicate(error: BaseException) -> bool:
    """Return whether a statement inserted a row whose key is there already."""
    return isinstance(error, asyncpg.UniqueViolationError)


def is_statement_fault(error: BaseException) -> bool:
    """Return whether the SQL is at fault: it is wrong, it met bad data, or it took too long."""
    return sqlstate(error).startswith(_STATEMENT_FAULTS)


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed later: after a deadlock, a lost connection, a restart."""
    if is_statement_fault(error):
        return False
    return isinstance(error, Unavailable | OSError) or sqlstate(error).startswith(_TRANSIENT)


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of a database error, or an empty text for any other error.

    For an error that `translated` made, it is the SQLSTATE of the cause.
    """
    cause = error.__cause__ if isinstance(error, TimedOut | Unavailable) else error
    state = getattr(cause, "sqlstate", None)
    return state if isinstance(state, str) else ""


def error_details(error: BaseException) -> dict[str, str]:
    """Return what a log may hold of an error: its type and location, and its SQLSTATE and safe message if any."""
    cause = error.__cause__ if isinstance(error, TimedOut | Unavailable) and error.__cause__ else error
    details = {"error": type(cause).__name__, "where": error_location(cause)}
    if state := sqlstate(error):
        details["sqlstate"] = state
    message = safe_message(cause)
    return {**details, "reason": message} if message else details


def safe_message(error: BaseException) -> str | None:
    """Return the first line of PostgreSQL's message, or None if it may hold people's data."""
    return _first_line(error) if isinstance(error, tuple(_ADVICE)) else None


def explain_error(error: BaseException) -> str:
    """Return one or two sentences about any error that ended a command, for the person who ran it."""
    if isinstance(error, asyncpg.PostgresError):
        for kind, advice in _ADVICE.items():
            if isinstance(error, kind):
                return f"The database refused: {_first_line(error)}. {advice}"
        return f"The database refused ({error.sqlstate}, {type(error).__name__}). Its log says more."
    if isinstance(error, asyncpg.InterfaceError):
        return _CONNECTION_LOST_MESSAGE
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename else ""
        return f"{file}{error.strerror}."
    return f"gql-server failed unexpectedly: {type(error).__name__} at {error_location(error)}. Please report it."


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
