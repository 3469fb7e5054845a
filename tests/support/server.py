"""A real server on a free port of this machine, in the test's own process, and a client for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from gql_server.api.auth import Tokens
from gql_server.app import make_app, make_runner
from gql_server.db.protocols import Database
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.settings import Settings

KEY = "a key that is used by tests alone and nowhere else"


@dataclass(frozen=True, slots=True)
class TestServer:
    """Sends requests as any role of one district."""

    __test__ = False

    url: str
    session: aiohttp.ClientSession
    district: str

    def token(self, role: Role = Role.ADMIN, person: str | None = None, district: str | None = None) -> str:
        return Tokens(KEY).issue(district or self.district, role, person, timedelta(minutes=5))

    async def post(
        self, body: Any, *, token: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send a body as it is (bytes) or as JSON; return the status and the answer's JSON."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = body if isinstance(body, bytes) else None
        async with self.session.post(
            f"{self.url}/graphql", data=data, json=None if data is not None else body, headers=sent
        ) as response:
            return response.status, await response.json(content_type=None)

    async def run(
        self, query: str, variables: dict[str, Any] | None = None, *, token: str | None = None
    ) -> Any:
        """Run a document as an administrator, or with a token; return `data`. Fails on errors."""
        status, answer = await self.post(
            {"query": query, "variables": variables}, token=token or self.token()
        )
        assert status == 200, answer
        assert "errors" not in answer, answer
        return answer["data"]


@asynccontextmanager
async def serving(
    db: Database, host: PluginHost, district: str, **settings: Any
) -> AsyncIterator[TestServer]:
    """Run a server for the length of the block."""
    given = Settings(signing_key=SecretStr(KEY), batch_poll_seconds=0.2, **settings)
    runner = make_runner(make_app(given, db, host), given)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as session:
            yield TestServer(url, session, district)
    finally:
        await runner.cleanup()
