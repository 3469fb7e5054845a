"""Turns errors of PostgreSQL into ImportFailed, for invalid records that the validation of the files did not find."""

from collections.abc import Iterator
from contextlib import contextmanager

from gql_server.errors import ImportFailed

_REFUSALS = {
    "22": "a value that it cannot store",
    "23": "a record that does not fit the others",
    "54": "a value beyond its limits",
}
"""What PostgreSQL refused, by the class of the SQLSTATE. Errors of other classes are not about the imported records."""


@contextmanager
def as_import_failures(folder: str) -> Iterator[None]:
    """Raise ImportFailed, naming the folder, if PostgreSQL refuses a record in the block.

    PostgreSQL's message may hold people's data and SQL, so only the SQLSTATE is repeated.
    """
    try:
        yield
    except Exception as error:
        state = getattr(error, "sqlstate", None) or ""
        what = _REFUSALS.get(state[:2])
        if what is None:
            raise
        problem = f"the database refused {what} (SQLSTATE {state}). Nothing was written."
        raise ImportFailed(folder, None, problem) from None
