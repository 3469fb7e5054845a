"""What the benchmarks start: a PostgreSQL with a sample district, server processes, and a client for their runs."""

import asyncio
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from os import environ
from typing import Any

from gql_server.api.auth import Tokens
from gql_server.api.client import GraphQLClient, Json
from gql_server.db.migrations import migrate
from gql_server.db.pool import connect
from gql_server.db.statements import resource_folder
from gql_server.domain.viewer import Role
from gql_server.errors import Unavailable
from gql_server.hooks.host import PluginHost
from gql_server.services.sample import make_sample

KEY = secrets.token_urlsafe(32)
CODE = "bench"
STIRRED = ("preference", "household_preference", "change", "batch_run", "batch_cell", "batch_target")
_RUN = "id status errors population progress { done total planning { step done total } }"
_SUBMIT = f"""
mutation submit($input: BatchSetPreferencesInput!) {{
  batchSetPreferences(input: $input) {{ run {{ {_RUN} }} userErrors {{ code message }} }}
}}"""
_LOOK = f"query look($id: ID!) {{ batchRun(id: $id) {{ {_RUN} }} }}"


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a Python module as a server until the end of the block."""
    with run_process([sys.executable, "-m", *command], env) as child:
        yield child


@contextmanager
def run_process(command: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program as a server until the end of the block."""
    child = subprocess.Popen(command, env={**environ, **env}, stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that listens on a port of this machine."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"


@contextmanager
def gql_server(dsn: str, **settings: str) -> Iterator[Server]:
    """Run `gql-server serve` until the end of the block. `settings` are named without the prefix."""
    port = free_port()
    given = {"DATABASE_URL": dsn, "SIGNING_KEY": KEY, "PORT": str(port), "LOG_LEVEL": "WARNING", **settings}
    env = {f"GQL_SERVER_{name}": value for name, value in given.items()}
    with process(["gql_server", "serve"], env) as child:
        yield Server(child.pid, port)


async def wait_for(port: int) -> None:
    """Wait until a server listens."""
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise RuntimeError(f"nothing listens on port {port}")


async def make_district(dsn: str, students: int) -> None:
    """Migrate a database and make the sample district in it."""
    async with connect(dsn) as conn:
        await migrate(conn)
        await make_sample(
            conn, PluginHost([resource_folder("plugins")]), code=CODE, students=students, seed=1
        )


async def settle(dsn: str) -> None:
    """Leave every table as if it had rested, so that nothing measured pays for what was before."""
    async with connect(dsn) as conn:
        for table in STIRRED:
            await conn.execute(f"vacuum analyze {table}")
        await conn.execute("checkpoint")


def token(role: Role = Role.ADMIN, person: str | None = None) -> str:
    """Return a token for the sample district that outlasts a benchmark. `person` is a source id."""
    return Tokens(KEY).issue(CODE, role, person, timedelta(hours=6))


class Runs:
    """Submits batches as the district's administrator, and follows them."""

    def __init__(self, client: GraphQLClient) -> None:
        self._client = client

    async def submit(self, mode: str, cells: Mapping[str, str], **options: Any) -> Json:
        """Record a run and return it. Cells are written CELL_PHONE:GENERAL, their settings ON or OFF."""
        named = [
            {"contactPoint": point, "reason": reason, "set": to}
            for cell, to in cells.items()
            for point, _, reason in [cell.partition(":")]
        ]
        given = {"mode": mode, "cells": named, "waitSeconds": 0, **options}
        return await self.change(_SUBMIT, "batchSetPreferences", input=given)

    async def act(self, mutation: str, run_id: str) -> Json:
        """Do applyBatch, cancelBatch or revertBatch and return the run it answers with."""
        payload = f"{{ run {{ {_RUN} }} userErrors {{ code message }} }}"
        document = f"mutation act($id: ID!) {{ {mutation}(id: $id) {payload} }}"
        return await self.change(document, mutation, id=run_id)

    async def change(self, document: str, name: str, **variables: Any) -> Json:
        payload = (await self._client.execute(document, variables))[name]
        if payload["userErrors"]:
            raise RuntimeError(f"{name}: {payload['userErrors']}")
        run: Json = payload["run"]
        return run

    async def look(self, run_id: str) -> Json:
        run: Json = (await self._client.execute(_LOOK, {"id": run_id}))["batchRun"]
        return run

    async def ended(self, run: Json, status: str = "DONE", poll_seconds: float = 0.05) -> Json:
        """Wait for a run to get into the status in which it rests. Raises RuntimeError where it fails."""
        while run["status"] != status:
            if run["status"] in ("FAILED", "CANCELLED"):
                raise RuntimeError(f"the run ended as {run['status']}: {run['errors']}")
            await asyncio.sleep(poll_seconds)
            run = await self.look(run["id"])
        return run


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Append the seconds that the block took."""
    start = time.perf_counter()
    yield
    into.append(time.perf_counter() - start)


async def until_up(client: GraphQLClient) -> None:
    """Wait until a server answers. Raises RuntimeError where it does not for half a minute."""
    for _ in range(300):
        try:
            await client.execute("{ headRevision }", {})
        except Unavailable:
            await asyncio.sleep(0.1)
        else:
            return
    raise RuntimeError("the server does not answer")
