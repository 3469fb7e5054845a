"""Watching a run, over WebSockets and server-sent events, against a real server."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from gql_server.api import websocket
from gql_server.api.auth import Tokens
from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import KEY, TestServer, serving
from tests.support.ws import PATIENCE, Socket, events, read_events, socket, streamed

pytestmark = pytest.mark.slow

WATCH = "subscription ($id: ID!) { batchRun(id: $id) { id status progress { done total } population } }"
SUBMIT = """mutation ($input: BatchSetPreferencesInput!) {
  batchSetPreferences(input: $input) { run { id } userErrors { code message } } }"""
ORDER = ("QUEUED", "PLANNING", "APPLYING", "DONE")
STUDENTS = 40


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    async with serving(db, host, "maple", batch_chunk_size=2, max_body_bytes=20_000) as server:
        yield server


@pytest.fixture
async def blocker(district: DistrictBuilder) -> int:
    """A run that another process holds: the ones after it wait (D21)."""
    await district.conn.execute(
        "insert into batch_run (district_id, mode, scope, status, requested_by, lease_owner, lease_expires_at)"
        " values ($1, 'STUDENTS', '{}', 'PLANNING', 'ADMIN', 'another', now() + interval '1 hour')",
        district.id,
    )
    return await district.conn.fetchval("select max(batch_run_id) from batch_run")


async def release(district: DistrictBuilder, blocker: int) -> None:
    await district.conn.execute(
        "update batch_run set status = 'DONE', lease_owner = null where batch_run_id = $1", blocker
    )


async def queued(server: TestServer, district: DistrictBuilder) -> str:
    """Submit a batch of many small chunks and return its id."""
    school = await district.school()
    for n in range(STUDENTS):
        await district.student(school, cell_phone=str(n))
    cells = [{"contactPoint": "CELL_PHONE", "reason": "EMERGENCY", "set": "ON"}]
    answer = await server.run(SUBMIT, {"input": {"mode": "STUDENTS", "cells": cells, "waitSeconds": 0}})
    return str(answer["batchSetPreferences"]["run"]["id"])


async def over_websocket(server: TestServer, run: str, begun: Callable[[], Awaitable[None]]) -> list[Any]:
    async with socket(server) as ws:
        await ws.open(server.token())
        await ws.subscribe("w", WATCH, {"id": run})
        first = await ws.receive()
        await begun()
        return [payload["data"]["batchRun"] for payload in (first["payload"], *await ws.payloads("w"))]


async def over_events(server: TestServer, run: str, begun: Callable[[], Awaitable[None]]) -> list[Any]:
    seen = []
    async with events(server, WATCH, {"id": run}) as response, asyncio.timeout(PATIENCE):
        async for name, data in read_events(response):
            if not seen:
                await begun()
            if name == "next":
                seen.append(data["data"]["batchRun"])
    assert name == "complete"
    return seen


@pytest.mark.parametrize("watch", [over_websocket, over_events])
async def test_a_run_is_watched_from_its_queue_to_its_end(
    server: TestServer, district: DistrictBuilder, blocker: int, watch: Callable[..., Awaitable[list[Any]]]
) -> None:
    """A watcher sees the run wait (D21), then its states in their order and progress that only grows, to the end."""
    run = await queued(server, district)
    seen = await watch(server, run, lambda: release(district, blocker))
    assert (seen[0]["status"], seen[-1]["status"]) == ("QUEUED", "DONE")
    for before, after in itertools.pairwise(seen):
        assert ORDER.index(before["status"]) <= ORDER.index(after["status"])
        assert before["progress"]["done"] <= after["progress"]["done"]
    assert {state["id"] for state in seen} == {run}
    assert seen[-1]["progress"] == {"done": STUDENTS, "total": STUDENTS}
    assert seen[-1]["population"] == STUDENTS


async def test_a_run_that_has_ended_is_told_once(
    server: TestServer, district: DistrictBuilder, blocker: int
) -> None:
    """The first event comes at once; after an end state the stream is complete."""
    await release(district, blocker)
    [told] = await streamed(server, WATCH, {"id": f"run_{blocker}"})
    assert told["data"]["batchRun"]["status"] == "DONE"


async def test_aliases_and_fragments_are_answered_by_their_keys(
    server: TestServer, district: DistrictBuilder, blocker: int
) -> None:
    """An event answers the selection as a query would: aliases, fragments, lists below the run."""
    await release(district, blocker)
    query = (
        "subscription S($id: ID!) { mine: batchRun(id: $id) { ...f at: requestedAt __typename } }"
        " fragment f on BatchRun { s: status results { contactPoint reason set updated } }"
    )
    [told] = await streamed(server, query, {"id": f"run_{blocker}"})
    read = "{ batchRun(id: %s) { s: status results { contactPoint reason set updated } at: requestedAt __typename } }"
    same = await server.run(read.replace("%s", f'"run_{blocker}"'))
    assert told["data"] == {"mine": same["batchRun"]}


@pytest.mark.parametrize("id", ["run_999", "run_0", "nonsense", "person_1", "foreign"])
async def test_what_is_no_run_of_the_district_cannot_be_watched(
    server: TestServer, db: Pool, host: PluginHost, district: DistrictBuilder, id: str
) -> None:
    """A run of another district, an id of another kind and one of nothing are refused in the same words."""
    other = await DistrictBuilder.create(district.conn, host, "oak")
    foreign = await other.insert(
        "batch_run", "batch_run_id", mode="STUDENTS", scope="{}", requested_by="ADMIN", status="DONE"
    )
    variables = {"id": f"run_{foreign}" if id == "foreign" else id}
    [told] = await streamed(server, WATCH, variables)
    [error] = told["errors"]
    assert (error["extensions"]["code"], "data" in told) == ("UNKNOWN_RUN", False)
    assert error["message"] == "There is no such run. `batchRuns` lists the runs of the district."
    async with socket(server) as ws:
        await ws.open(server.token())
        await ws.subscribe("w", WATCH, variables)
        assert await ws.receive() == {"type": "error", "id": "w", "payload": told["errors"]}


@pytest.mark.parametrize("role", [Role.VENDOR, Role.GUARDIAN, Role.STAFF, Role.STUDENT])
async def test_only_administrators_watch(
    server: TestServer, district: DistrictBuilder, blocker: int, role: Role
) -> None:
    """Any other role is refused, whether or not the run exists."""
    for id in (f"run_{blocker}", "run_999"):
        [told] = await streamed(server, WATCH, {"id": id}, server.token(role, "P1"))
        assert [error["extensions"]["code"] for error in told["errors"]] == ["FORBIDDEN"]


async def test_a_plain_post_says_how_to_subscribe(server: TestServer) -> None:
    """A subscription without a stream is refused with words that name both ways."""
    status, answer = await server.post({"query": WATCH, "variables": {"id": "run_1"}}, token=server.token())
    [error] = answer["errors"]
    assert (status, error["extensions"]["code"]) == (200, "BAD_REQUEST")
    assert "WebSocket" in error["message"]
    assert "text/event-stream" in error["message"]


async def test_queries_and_mutations_are_answered_as_events(server: TestServer) -> None:
    """Every kind of operation, and every error in one, comes as `next` and then `complete`."""
    assert await streamed(server, "{ viewer { role } }") == [{"data": {"viewer": {"role": "ADMIN"}}}]
    assert await streamed(server, '{ viewer { role } __type(name: "Person") { name } }') == [
        {"data": {"viewer": {"role": "ADMIN"}, "__type": {"name": "Person"}}}
    ]
    [deleted] = await streamed(server, 'mutation { deleteFilter(id: "x") { userErrors { code } } }')
    assert deleted["data"]["deleteFilter"]["userErrors"]
    for query, code in (("{", "GRAPHQL_VALIDATION_FAILED"), (WATCH, "GRAPHQL_VALIDATION_FAILED")):
        [told] = await streamed(server, query)
        assert [error["extensions"]["code"] for error in told["errors"]] == [code]


async def test_who_takes_both_gets_events_only_for_subscriptions(server: TestServer, blocker: int) -> None:
    """With JSON and events accepted, a query is answered with JSON, a subscription with events."""
    accept = "application/graphql-response+json, application/json, text/event-stream"
    headers = {"Accept": accept, "Authorization": f"Bearer {server.token()}"}
    for query, media_type in (
        ("{ viewer { role } }", "application/graphql-response+json"),
        (WATCH, "text/event-stream"),
    ):
        body = {"query": query, "variables": {"id": f"run_{blocker}"}}
        async with server.session.post(f"{server.url}/graphql", json=body, headers=headers) as response:
            assert response.content_type == media_type


async def test_events_need_a_token(server: TestServer) -> None:
    """Without a token events are answered with 401, like anything else."""
    status, _ = await server.post({"query": WATCH}, headers={"Accept": "text/event-stream"})
    assert status == 401


async def test_a_socket_answers_queries_and_mutations(server: TestServer) -> None:
    """One connection carries many operations; each is answered under its id, and an id may be used again."""
    async with socket(server) as ws:
        await ws.open(server.token())
        for _ in range(2):
            await ws.subscribe("q", "{ viewer { role } }")
            assert await ws.payloads("q") == [{"data": {"viewer": {"role": "ADMIN"}}}]
        await ws.subscribe("m", 'mutation { deleteFilter(id: "x") { userErrors { code } } }')
        [payload] = await ws.payloads("m")
        assert payload["data"]["deleteFilter"]["userErrors"]
        await ws.subscribe("bad", "{ nothing }")
        [[error]] = await ws.payloads("bad")
        assert error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
        await ws.send(type="ping")
        assert await ws.receive() == {"type": "pong"}


async def test_the_token_may_come_in_the_header(server: TestServer) -> None:
    """A client that can set headers needs no payload; a payload's token goes before the header's."""
    async with socket(server, Authorization=f"Bearer {server.token()}") as ws:
        await ws.open(None)
        await ws.subscribe("q", "{ viewer { role } }")
        assert await ws.payloads("q") == [{"data": {"viewer": {"role": "ADMIN"}}}]
    async with socket(server, Authorization=f"Bearer {server.token()}") as ws:
        await ws.open(server.token(Role.VENDOR))
        await ws.subscribe("q", "{ viewer { role } }")
        assert await ws.payloads("q") == [{"data": {"viewer": {"role": "VENDOR"}}}]


@pytest.mark.parametrize(
    "token",
    [
        None,
        "nonsense",
        Tokens(KEY).issue("maple", Role.ADMIN, None, timedelta(seconds=-1)),
        Tokens(KEY).issue("no-such-district", Role.ADMIN, None, timedelta(minutes=5)),
    ],
    ids=["none", "garbled", "expired", "another district"],
)
async def test_a_socket_without_a_good_token_is_closed(server: TestServer, token: str | None) -> None:
    """A connection that does not say who it is, or says it badly, ends with 4401 before it is acknowledged."""
    async with socket(server) as ws:
        payload = None if token is None else {"Authorization": f"Bearer {token}"}
        await ws.send(type="connection_init", payload=payload)
        assert await ws.closed() == 4401


@pytest.mark.parametrize("protocols", [("graphql-ws",), ("nonsense",), ()])
async def test_other_protocols_are_refused(server: TestServer, protocols: tuple[str, ...]) -> None:
    """The legacy protocol, an unknown one and none are refused before the connection is open."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await server.session.ws_connect(f"{server.url}/graphql", protocols=protocols)
    assert refusal.value.status == 400


async def sends(ws: Socket, token: str, what: str) -> None:
    """Break the protocol in one of its ways."""
    query = {"query": "{ viewer { role } }"}
    if what not in ("subscribe first", "init payload", "no JSON", "binary"):
        await ws.open(token)
    match what:
        case "subscribe first":
            await ws.send(type="subscribe", id="a", payload=query)
        case "init payload":
            await ws.send(type="connection_init", payload=[])
        case "no JSON":
            await ws.ws.send_str("{")
        case "binary":
            await ws.ws.send_bytes(b'{"type":"ping"}')
        case "init twice":
            await ws.send(type="connection_init")
        case "unknown type":
            await ws.send(type="start", id="a", payload=query)
        case "no id":
            await ws.send(type="subscribe", payload=query)
        case "no query":
            await ws.send(type="subscribe", id="a", payload={})
        case "too large":
            await ws.ws.send_str(" " * 30_000)
        case "same id":
            for _ in range(2):
                await ws.send(
                    type="subscribe", id="a", payload={"query": WATCH, "variables": {"id": "run_1"}}
                )


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("subscribe first", 4401),
        ("init payload", 4400),
        ("no JSON", 4400),
        ("binary", 4400),
        ("init twice", 4429),
        ("unknown type", 4400),
        ("no id", 4400),
        ("no query", 4400),
        ("too large", 1009),
        ("same id", 4409),
    ],
)
async def test_who_breaks_the_protocol_is_told_with_its_codes(
    server: TestServer, blocker: int, what: str, code: int
) -> None:
    """Each way to break the protocol closes the connection with the code that the protocol gives it."""
    async with socket(server) as ws:
        await sends(ws, server.token(), what)
        assert await ws.closed() == code


async def test_who_does_not_say_who_they_are_is_closed(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is not initialised in time ends with 4408."""
    monkeypatch.setattr(websocket, "_INIT_SECONDS", 0.2)
    async with socket(server) as ws:
        await ws.send(type="ping")
        assert await ws.closed() == 4408


async def test_a_connection_lasts_as_long_as_its_token(server: TestServer, blocker: int) -> None:
    """When the token expires both kinds of streams end: the socket with 4403, the events without `complete`."""
    token = Tokens(KEY).issue("maple", Role.ADMIN, None, timedelta(seconds=2))
    async with socket(server) as ws, events(server, WATCH, {"id": f"run_{blocker}"}, token) as response:
        await ws.open(token)
        await ws.subscribe("w", WATCH, {"id": f"run_{blocker}"})
        assert await ws.closed() == 4403
        async with asyncio.timeout(PATIENCE):
            assert [name async for name, _ in read_events(response)] == ["next"]


async def test_a_connection_has_a_limit_of_operations(server: TestServer, blocker: int) -> None:
    """One operation more than the limit is refused; those that run go on, and one completed makes room."""
    async with socket(server) as ws:
        await ws.open(server.token())
        for n in range(websocket._MAX_OPERATIONS):
            await ws.subscribe(str(n), WATCH, {"id": f"run_{blocker}"})
            assert (await ws.receive())["type"] == "next"
        await ws.subscribe("more", WATCH, {"id": f"run_{blocker}"})
        refused = await ws.receive()
        assert (refused["type"], refused["id"]) == ("error", "more")
        await ws.send(type="complete", id="0")
        await ws.subscribe("more", WATCH, {"id": f"run_{blocker}"})
        assert (await ws.receive())["type"] == "next"


def watching() -> int:
    """Return how many watches run in this process, which is the server's too."""
    return sum("Subscription" in repr(task) or "ClientConnection._execute(" in repr(task) or "_send(" in repr(task)
               for task in asyncio.all_tasks())  # fmt: skip


async def none_watching() -> None:
    async with asyncio.timeout(PATIENCE):
        while watching():
            await asyncio.sleep(0.05)


async def test_nothing_is_left_when_clients_leave(server: TestServer, blocker: int) -> None:
    """A watch ends when it is completed by its client, and when the client goes away without a word."""
    async with socket(server) as ws:
        await ws.open(server.token())
        await ws.subscribe("w", WATCH, {"id": f"run_{blocker}"})
        assert (await ws.receive())["type"] == "next"
        assert watching() == 1
        await ws.send(type="complete", id="w")
        await none_watching()
        await ws.subscribe("w", WATCH, {"id": f"run_{blocker}"})
        assert (await ws.receive())["type"] == "next"
        ws.ws._response.close()
    await none_watching()
    async with events(server, WATCH, {"id": f"run_{blocker}"}) as response:
        assert (await anext(read_events(response)))[0] == "next"
        assert watching() == 1
        response.close()
    await none_watching()


async def test_a_server_with_open_streams_stops_at_once(
    db: Pool, host: PluginHost, district: DistrictBuilder, blocker: int
) -> None:
    """Stopping the server ends sockets with 1001 and events without `complete`, and waits for neither."""
    async with AsyncExitStack() as stop, aiohttp.ClientSession() as session:
        served = await stop.enter_async_context(serving(db, host, "maple"))
        server = TestServer(served.url, session, "maple")
        async with socket(server) as ws, events(server, WATCH, {"id": f"run_{blocker}"}) as response:
            await ws.open(server.token())
            await ws.subscribe("w", WATCH, {"id": f"run_{blocker}"})
            assert (await ws.receive())["type"] == "next"
            got = read_events(response)
            assert (await anext(got))[0] == "next"
            async with asyncio.timeout(3):
                stopping = asyncio.create_task(stop.aclose())
                assert await ws.closed() == 1001
                assert [event async for event in got] == []
                await stopping
    assert not watching()
