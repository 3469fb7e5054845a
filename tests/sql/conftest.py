"""One connection for all tests that only prepare statements or ask for their plans."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import connect
from tests.support.statements import TEXTS, makes_tables


@pytest.fixture(scope="session")
async def prepared(server_dsn: str, template: str) -> AsyncIterator[Any]:
    """A connection, in a transaction, to a migrated database with the temporary tables of all statements."""
    async with connect(server_dsn.format(database="postgres")) as admin:
        await admin.execute(f'create database "test_statements" template "{template}"')
    async with connect(server_dsn.format(database="test_statements")) as conn, conn.transaction():
        for name in sorted(filter(makes_tables, TEXTS), key=lambda name: "create temp view" in TEXTS[name]):
            await conn.execute(TEXTS[name])
        yield conn
