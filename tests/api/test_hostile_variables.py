"""Variables made to be costly: refused with words before anything is made of them, and never kept."""

import asyncio
import gc
import json
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from graphql import get_introspection_query

from gql_server.db.pool import Pool
from gql_server.domain.limits import MAX_CELLS
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.services.filters.criteria import MAX_VALUES
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving
from tests.support.ws import PATIENCE, socket

pytestmark = pytest.mark.slow

MEDIA_TYPE = {"Accept": "application/graphql-response+json"}
SET = """mutation ($cells: [PreferenceCellInput!]!) {
  setPreferences(input: {personId: "person_1", cells: $cells}) { userErrors { code } } }"""
PEOPLE = "query ($filter: PersonFilter) { people(first: 1, filter: $filter) { edges { cursor } } }"
SAVE = """mutation ($criteria: JSON!) {
  saveFilter(input: {name: "x", kind: STUDENT, criteria: $criteria}) { userErrors { code message } } }"""
CELL = {"contactPoint": "EMAIL", "method": "EMAIL", "reason": "GENERAL", "on": True}


def nested(levels: int, key: str = "a") -> str:
    """Return JSON nested so deeply that Python's own encoder would not write it."""
    return f'{{"{key}":' * levels + "1" + "}" * levels


HOSTILE = {
    "cells": (SET, {"cells": [CELL] * 12_400}),
    "empty cells": (SET, {"cells": [{}] * 200_000}),
    "ids": (PEOPLE, {"filter": {"ids": ["a"] * 150_000}}),
    "unknown keys": (PEOPLE, {"filter": {f"k{n}": 1 for n in range(50_000)}}),
    "criteria": (SAVE, {"criteria": {f"k{n}": 1 for n in range(50_000)}}),
    "a variable that is not asked for": ("{ headRevision }", {"x": [[]] * 150_000}),
}


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    async with serving(db, host, "maple") as server:
        yield server


async def test_too_many_values_are_refused_before_they_are_read(server: TestServer) -> None:
    """Of any role and in any place: BAD_REQUEST with the bound, told once, and not what is wrong with each value."""
    for role in (Role.ADMIN, Role.GUARDIAN):
        token = server.token(role, "guardian-1" if role is Role.GUARDIAN else None)
        for name, (query, variables) in HOSTILE.items():
            body = {"query": query, "variables": variables}
            status, answer = await server.post(body, token=token, headers=MEDIA_TYPE)
            (error,) = answer["errors"]
            assert (status, error["extensions"]["code"]) == (400, "BAD_REQUEST"), (name, answer)
            assert "12,000 values" in error["message"], name


async def test_deep_values_are_refused_with_words(server: TestServer) -> None:
    """JSON nested beyond what anything takes is BAD_REQUEST, never INTERNAL; criteria too deep are told as theirs."""
    for key in ("a", "not"):
        for levels in (70, 600, 1_000):
            body = f'{{"query":{json.dumps(SAVE)},"variables":{{"criteria":{nested(levels, key)}}}}}'
            status, answer = await server.post(body.encode(), token=server.token(), headers=MEDIA_TYPE)
            (error,) = answer["errors"]
            assert (status, error["extensions"]["code"]) == (400, "BAD_REQUEST"), (levels, answer)
            assert "nested" in error["message"]
    told = await server.run(SAVE, {"criteria": json.loads(nested(30, "not"))})
    assert "nested at most 8 deep" in told["saveFilter"]["userErrors"][0]["message"]


async def test_a_socket_that_sends_too_many_values_stays_open(server: TestServer) -> None:
    """Over a WebSocket the same is `error`; the other operations of the connection go on."""
    async with socket(server) as ws:
        await ws.open(server.token())
        await ws.subscribe("1", *HOSTILE["empty cells"])
        (errors,) = await ws.payloads("1")
        assert errors[0]["extensions"]["code"] == "BAD_REQUEST"
        await ws.subscribe("2", "{ viewer { role } }")
        assert await ws.payloads("2") == [{"data": {"viewer": {"role": "ADMIN"}}}]


async def test_what_the_limits_allow_is_read(server: TestServer) -> None:
    """The bound on values refuses no request that the limits of cells, ids and criteria allow."""
    ids = [f"person_{n}" for n in range(1_000)]
    assert await server.run(PEOPLE, {"filter": {"ids": ids}}) == {"people": {"edges": []}}
    parts = [{"field": "grade", "in": [str(m) for m in range(MAX_VALUES // 100)]} for _ in range(100)]
    for query, variables in (
        (SET, {"cells": [CELL] * MAX_CELLS}),
        (SAVE, {"criteria": {"all": parts}}),
    ):
        _, answer = await server.post({"query": query, "variables": variables}, token=server.token())
        assert "values" not in str(answer.get("errors")), answer


async def test_json_in_variables_is_not_kept(server: TestServer) -> None:
    """Criteria that differ in every key leave nothing behind: what is kept of a document depends on no JSON value."""

    async def save(start: int) -> None:
        criteria = {f"{start}_{n}": 1 for n in range(10_000)}
        await server.run(SAVE, {"criteria": criteria})

    for n in range(3):
        await save(n)
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(12):
            await save(n + 10)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 3_000_000


async def test_the_schema_is_told_one_at_a_time_and_kept(server: TestServer) -> None:
    """Many who ask for the schema at once keep one thread busy, and a document that was answered is not run again."""
    busiest, ended = 0, False

    async def watch() -> None:
        nonlocal busiest
        while not ended:
            busiest = max(busiest, sum(_introspects(each) for each in _other_threads()))
            await asyncio.sleep(0.001)

    watching = asyncio.create_task(watch())
    query = get_introspection_query()
    asked = (server.run(f"#{n}\n{query}") for n in range(8))
    async with asyncio.timeout(PATIENCE):
        answers = await asyncio.gather(*asked)
    first, busiest = busiest, 0
    again = [await server.run(f"#{n}\n{query}") for n in range(8)]
    ended = True
    await watching
    assert answers[0]["__schema"]["types"]
    assert [*answers, *again] == [answers[0]] * 16
    assert (first, busiest) == (1, 0)


def _other_threads() -> list[Any]:
    me = threading.get_ident()
    return [frame for ident, frame in sys._current_frames().items() if ident != me]


def _introspects(frame: Any) -> bool:
    """Tell whether a thread is in graphql-core's execution."""
    while frame is not None:
        if frame.f_code.co_name == "execute_operation":
            return True
        frame = frame.f_back
    return False


async def test_a_socket_may_not_send_without_end(server: TestServer) -> None:
    """A flood of messages closes its own connection, with words, whatever the messages are."""
    floods: list[dict[str, Any]] = [
        {"type": "ping"},
        {"type": "subscribe", "id": "1", "payload": {"query": "{ nothing }"}},
    ]
    for message in floods:
        async with socket(server) as ws:
            await ws.open(server.token())
            for n in range(2_000):
                if ws.ws.closed:
                    break
                try:
                    await ws.send(**{**message, **({"id": str(n)} if "id" in message else {})})
                except ConnectionError:
                    break
            assert await ws.closed() == 4429
