"""The most costly queries known: each is refused before it is compiled, or costs PostgreSQL no more than its bound.

`python -m tests.bench.worst_query` finds such queries, and measures their CPU too, on a large district.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
import pytest

from gql_server.db.pool import open_pool
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.services.sample import make_sample
from tests.support.backends import MIB, Backends, available
from tests.support.server import TestServer, serving
from tests.support.worst_documents import DOCUMENTS

pytestmark = pytest.mark.slow

BOUNDS = {Role.GUARDIAN: 16 * MIB, Role.VENDOR: 64 * MIB, Role.ADMIN: 64 * MIB}
REFUSALS = {"QUERY_TOO_EXPENSIVE", "ANSWER_TOO_LARGE", "FORBIDDEN"}
NOTHING = 6 * MIB
"""What a refusal may cost: nothing was asked, but the backend serves the server's own work too."""


@dataclass(frozen=True, slots=True)
class District:
    """A sample district behind a server, and the backends that serve it."""

    server: TestServer
    backends: Backends
    tokens: Mapping[Role, str]
    ids: Mapping[str, str]

    async def ask(self, role: Role, document: str) -> Any:
        """Send a document with its ids filled in; return the first answer, be it JSON or an event."""
        for name, value in self.ids.items():
            document = document.replace(f"{{{name}}}", value)
        headers = {
            "Authorization": f"Bearer {self.tokens[role]}",
            "Accept": "application/json, text/event-stream",
        }
        async with self.server.session.post(
            f"{self.server.url}/graphql", json={"query": document}, headers=headers
        ) as response:
            body = await response.read()
        data = next((line[5:] for line in body.splitlines() if line.startswith(b"data: {")), body)
        return orjson.loads(data)


@pytest.fixture
async def district(dsn: str, host: PluginHost) -> AsyncIterator[District]:
    pool = await open_pool(dsn, min_size=1, max_size=2)
    conn = await asyncpg.connect(dsn)
    async with pool.transaction() as writing:
        sample = await make_sample(writing, host, code="maple", students=150, seed=1)
    async with serving(pool, host, "maple") as server:
        person = await conn.fetchval("select person_id from person where source_id = $1", sample.guardian)
        ids = {
            "person": f"person_{person}",
            "run": "run_1",
            "school": f"school_{await conn.fetchval('select min(school_id) from school')}",
        }
        tokens = {Role.GUARDIAN: server.token(Role.GUARDIAN, sample.guardian)}
        tokens |= {role: server.token(role) for role in (Role.VENDOR, Role.ADMIN)}
        await server.run(
            "mutation ($input: BatchSetPreferencesInput!) { batchSetPreferences(input: $input) { run { id } } }",
            {"input": {"mode": "STUDENTS", "dryRun": True, "cells": [
                {"contactPoint": "CELL_PHONE", "reason": "GENERAL", "set": "ON"}]}},
        )  # fmt: skip

        async def warm() -> None:
            await server.post({"query": "{ viewer { role } }"}, token=server.token())

        yield District(server, Backends(conn, warm), tokens, ids)
    await conn.close()
    await pool.close()


@pytest.mark.skipif(not available(), reason="memory of processes is counted on Linux")
async def test_the_worst_queries_known_are_refused_or_cost_no_more_than_their_bound(
    district: District,
) -> None:
    """No role makes a backend take more memory than its bound by any of them: what is refused takes none at all."""
    over = {}
    for role, documents in DOCUMENTS.items():
        for name, document in documents.items():
            await district.backends.renew()
            async with district.backends.measured() as cost:
                answer = await district.ask(role, document)
            codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
            assert codes <= REFUSALS, (role, name, answer["errors"])
            if cost.bytes > (NOTHING if codes else BOUNDS[role]):
                over[role, name] = f"{cost.bytes / MIB:.1f} MiB, {codes}"
    assert not over
