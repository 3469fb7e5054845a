"""What a failure of PostgreSQL, of the system or of the driver means to who started a command: one line, no data.

Only classes of errors are told whose words name things of the schema, not values in it.
"""

import asyncpg

from gql_server.errors import error_location

_ADVICE: dict[type[BaseException], str] = {
    asyncpg.InsufficientPrivilegeError: "The user of GQL_SERVER_DATABASE_URL needs that right.",
    asyncpg.LockNotAvailableError: "Another transaction holds a lock that is needed. Try again.",
    asyncpg.QueryCanceledError: "It took longer than the database allows. Try again when less is going on.",
    asyncpg.InsufficientResourcesError: "The database has run out of room or connections. Make some, and try again.",
    asyncpg.ReadOnlySQLTransactionError: "This database can only be read. Name the primary server.",
    asyncpg.UndefinedTableError: "Is this the right database, and is it migrated? `gql-server migrate` does that.",
    asyncpg.UndefinedColumnError: "Is it migrated? `gql-server migrate` does that.",
    asyncpg.InvalidSchemaNameError: "Is this the right database, with a schema to make tables in?",
    asyncpg.OperatorInterventionError: "The database is stopping or starting. Try again.",
    asyncpg.PostgresConnectionError: "The connection to the database was lost. Try again.",
}


def is_lock_timeout(error: BaseException) -> bool:
    """Tell whether a statement ended because it waited for a lock for as long as it may."""
    return isinstance(error, asyncpg.LockNotAvailableError)


def explained(error: BaseException) -> str:
    """Return one sentence or two on any error that ended a command."""
    if isinstance(error, asyncpg.PostgresError):
        for kind, advice in _ADVICE.items():
            if isinstance(error, kind):
                return f"The database refused: {_first_line(error)}. {advice}"
        return f"The database refused ({error.sqlstate}, {type(error).__name__}). Its log says more."
    if isinstance(error, asyncpg.InterfaceError):
        return "The connection to the database was lost. Try again."
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    what = f"{type(error).__name__} at {error_location(error)}"
    return f"gql-server failed where it should not: {what}. Please report it."


def database_words(error: BaseException) -> str | None:
    """Return PostgreSQL's own reason in one line, of errors whose words hold no data."""
    return _first_line(error) if isinstance(error, tuple(_ADVICE)) else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
