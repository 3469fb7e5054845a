"""What a command says of an error that nobody foresaw: one line, without values of the database and without a trace."""

import asyncpg
import pytest

from gql_server.db.database_errors import explain_error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            asyncpg.InsufficientPrivilegeError("permission denied for schema public"),
            "permission denied for schema",
        ),
        (asyncpg.LockNotAvailableError("canceling statement due to lock timeout"), "lock timeout"),
        (
            asyncpg.DiskFullError("could not extend file: No space left on device\nHINT: x"),
            "No space left on device",
        ),
        (asyncpg.TooManyConnectionsError("sorry, too many clients already"), "too many clients"),
        (asyncpg.UndefinedTableError('relation "person" does not exist'), "gql-server migrate"),
        (OSError(28, "No space left on device", "/data/x.csv"), "/data/x.csv: No space left on device."),
        (asyncpg.InterfaceError("connection is closed"), "connection to the database was lost"),
    ],
)
def test_known_errors_are_told_in_their_words(error: Exception, words: str) -> None:
    """Grants, locks, full disks and lost connections are said as PostgreSQL or the system says them, on one line."""
    assert words in explain_error(error)
    assert "\n" not in explain_error(error)


@pytest.mark.parametrize(
    "error",
    [asyncpg.UniqueViolationError("Key (email)=(sam@maple.example)"), ValueError("sam@maple.example")],
)
def test_values_are_not_repeated(error: Exception) -> None:
    """Words that may hold somebody's data are left out; the kind of the error is told."""
    assert type(error).__name__ in explain_error(error)
    assert "sam" not in explain_error(error)
