"""Whose fault an error of the database is, told by its SQLSTATE."""

from gql_server.db.problems import database_words
from gql_server.errors import TimedOut, Unavailable, place

_STATEMENT = ("21", "22", "23", "25006", "42", "57014", "P0")
_PASSING = ("08", "40", "53", "55P03", "57")


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error of the database, or an empty text for any other error.

    Of what the pool has translated it is the cause's.
    """
    cause = error.__cause__ if isinstance(error, TimedOut | Unavailable) else error
    state = getattr(cause, "sqlstate", None)
    return state if isinstance(state, str) else ""


def reason(error: BaseException) -> dict[str, str]:
    """Return what a log may hold of an error: its kind, PostgreSQL's reason where there is one, and its place."""
    cause = error.__cause__ if isinstance(error, TimedOut | Unavailable) and error.__cause__ else error
    told = {"error": type(cause).__name__, "where": place(cause)}
    if state := sqlstate(error):
        told["sqlstate"] = state
    words = database_words(cause)
    return {**told, "reason": words} if words else told


def lies_in_statement(error: BaseException) -> bool:
    """Return whether the SQL is at fault: it is wrong, it met bad data, or it took too long."""
    return sqlstate(error).startswith(_STATEMENT)


def passes(error: BaseException) -> bool:
    """Return whether the same work may succeed later: a deadlock, a lost connection, a restart."""
    if lies_in_statement(error):
        return False
    return isinstance(error, Unavailable | OSError) or sqlstate(error).startswith(_PASSING)
