"""The last net of an import: what PostgreSQL refuses although the files were checked is told in words."""

from collections.abc import Iterator
from contextlib import contextmanager

from gql_server.errors import ImportFailed

_REFUSALS = {
    "22": "a value that it cannot keep",
    "23": "a record that does not fit the others",
    "54": "a value beyond its limits",
}
"""What PostgreSQL refused, by the class of the SQLSTATE; errors of other classes are not about what is imported."""


@contextmanager
def told_as_failures(folder: str) -> Iterator[None]:
    """Turn what PostgreSQL refuses within the block into ImportFailed, naming the folder.

    Its own words may hold people's data and SQL, so only the SQLSTATE is told.
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
