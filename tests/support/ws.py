"""Clients of the two kinds of streams: graphql-transport-ws over a WebSocket, and server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from tests.support.server import TestServer

PROTOCOL = "graphql-transport-ws"
PATIENCE = 20
"""Seconds after which what has not come will not come."""


@dataclass(frozen=True, slots=True)
class Socket:
    """One WebSocket to a test server."""

    ws: aiohttp.ClientWebSocketResponse

    async def send(self, **message: Any) -> None:
        await self.ws.send_json(message)

    async def receive(self) -> Any:
        """Return the next message. Fails where the server closes instead."""
        message = await asyncio.wait_for(self.ws.receive(), PATIENCE)
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.ws.close_code)
        return orjson.loads(message.data)

    async def closed(self) -> int | None:
        """Return the code with which the server closes, whatever it sends before."""
        while (await asyncio.wait_for(self.ws.receive(), PATIENCE)).type is aiohttp.WSMsgType.TEXT:
            pass
        return self.ws.close_code

    async def open(self, token: str | None) -> None:
        payload = None if token is None else {"Authorization": f"Bearer {token}"}
        await self.send(type="connection_init", payload=payload)
        assert await self.receive() == {"type": "connection_ack"}

    async def subscribe(self, id: str, query: str, variables: dict[str, Any] | None = None) -> None:
        await self.send(type="subscribe", id=id, payload={"query": query, "variables": variables})

    async def payloads(self, id: str) -> list[Any]:
        """Return all that an operation is answered until it is complete; an error's payload comes last."""
        payloads: list[Any] = []
        while True:
            message = await self.receive()
            assert message["id"] == id
            if message["type"] == "complete":
                return payloads
            payloads.append(message["payload"])
            if message["type"] == "error":
                return payloads


@asynccontextmanager
async def socket(server: TestServer, *protocols: str, **headers: str) -> AsyncIterator[Socket]:
    """Open a WebSocket for the length of the block."""
    async with server.session.ws_connect(
        f"{server.url}/graphql", protocols=protocols or (PROTOCOL,), headers=headers
    ) as ws:
        yield Socket(ws)


@asynccontextmanager
async def events(
    server: TestServer, query: str, variables: dict[str, Any] | None = None, token: str | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask for events; give the response as soon as it begins."""
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {token or server.token()}"}
    async with server.session.post(
        f"{server.url}/graphql", json={"query": query, "variables": variables}, headers=headers
    ) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield response


async def read_events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """Yield the name and data of each event; comments are left out."""
    name = ""
    async for line in response.content:
        field, _, value = line.decode().rstrip("\n").partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            yield name, orjson.loads(value) if value.strip() else None


async def streamed(
    server: TestServer, query: str, variables: dict[str, Any] | None = None, token: str | None = None
) -> list[Any]:
    """Return the data of all events `next`; fails where `complete` does not come last, once."""
    async with events(server, query, variables, token) as response, asyncio.timeout(PATIENCE):
        got = [event async for event in read_events(response)]
    assert got[-1] == ("complete", None)
    assert {name for name, _ in got[:-1]} <= {"next"}
    return [data for _, data in got[:-1]]
