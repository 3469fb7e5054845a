"""The last net of an import: what PostgreSQL refuses although the files were checked is told in words."""

from collections.abc import Iterator
from contextlib import contextmanager

from gql_server.errors import ImportFailed

_REFUSALS = {
    "22": "a value that it cannot keep",
    "23": "a record that does not fit the others",
    "53": "the work for lack of room or memory",
    "54": "a value or a statement beyond its limits",
    "57014": "to work on: a statement took too long or was cancelled",
    "55P03": "to wait any longer for another write",
    "40": "the work beside another write",
}
"""What PostgreSQL refused, by the beginning of the SQLSTATE; other errors are not the import's to tell."""


@contextmanager
def told_as_failures(folder: str) -> Iterator[None]:
    """Turn what PostgreSQL refuses within the block into ImportFailed, naming the folder.

    Its own words may hold people's data and SQL, so only the SQLSTATE is told.
    """
    try:
        yield
    except Exception as error:
        state = getattr(error, "sqlstate", None)
        what = next((words for start, words in _REFUSALS.items() if str(state).startswith(start)), None)
        if state is None or what is None:
            raise
        problem = f"the database refused {what} (SQLSTATE {state}). Nothing was written."
        raise ImportFailed(folder, None, problem) from None
