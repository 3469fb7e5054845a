"""What no text may do, wherever the API takes one: break the server, or be half written."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLSchema, build_schema

from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from tests.support.builder import YEAR, DistrictBuilder
from tests.support.hostile import Place, Places
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

_AT_ONCE = 4
_WRITTEN = """
select (select revision from district where district_id = $1),
  (select count(*) from batch_run), (select count(*) from idempotency_key),
  (select string_agg(f::text, ';' order by f::text) from saved_filter f)
"""


@pytest.fixture(scope="session")
def schema() -> GraphQLSchema:
    text = (Path(__file__).resolve().parents[2] / "schema.graphql").read_text(encoding="utf-8")
    return build_schema(text)


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    async with serving(db, host, "maple") as server:
        yield server


@pytest.fixture
async def places(schema: GraphQLSchema, server: TestServer, district: DistrictBuilder) -> Places:
    """The places of the schema, with ids of this district as the valid values."""
    school = await district.school()
    sam = await district.student(school, cell_phone="555-0100", email="sam@example.org")
    household = await district.insert("household", "household_id", name="Home", phone="555-0101")
    await district.insert("household_member", household_id=household, person_id=sam)
    criteria = {"field": "grade", "is": "09"}
    saved = await district.insert(
        "saved_filter", "saved_filter_id", name="Ninth", kind="STUDENT", criteria=json.dumps(criteria)
    )
    run = await server.run(
        'mutation { batchSetPreferences(input: {mode: "STUDENTS", dryRun: true,'
        ' cells: [{contactPoint: CELL_PHONE, reason: "EMERGENCY", set: ON}]}) { run { id } } }'
    )
    return Places(
        schema,
        {
            "id": run["batchSetPreferences"]["run"]["id"], "node.id": f"school_{school}",
            "person.id": f"person_{sam}", "household.id": f"household_{household}", "ids": f"person_{sam}",
            "personId": f"person_{sam}", "householdId": f"household_{household}",
            "schoolId": f"school_{school}", "schoolIds": f"school_{school}", "filterId": f"filter_{saved}",
            "deleteFilter.id": f"filter_{saved}", "SaveFilterInput.id": f"filter_{saved}", "mode": "STUDENTS",
            "reason": "EMERGENCY", "ifRevision": "1", "grade": "09", "grades": "09", "search": "sam",
            "criteria": criteria, "name": "Tenth", "schoolYear": YEAR, "waitSeconds": 0, "set": "ON",
            "contactPoint": "CELL_PHONE", "method": "VOICE", "kind": "STUDENT", "after": None,
            "SetHouseholdPreferencesInput.contactPoint": "HOUSEHOLD_PHONE",
        },
    )  # fmt: skip


async def _send(server: TestServer, place: Place, hostile: Any) -> tuple[int, Any]:
    body = json.dumps({"query": place.document, "variables": {"value": place.value(hostile)}}).encode()
    return await server.post(body, token=server.token())


def _refusals(answer: Any) -> list[tuple[str, str]]:
    """Return the code and the words of everything that an answer refuses."""
    found = [(error["extensions"]["code"], error["message"]) for error in answer.get("errors", ())]
    payloads = (answer.get("data") or {}).values()
    for payload in payloads:
        if isinstance(payload, dict):
            found += [(error["code"], error["message"]) for error in payload.get("userErrors", ())]
    return found


def _hold_answer(place: Place, hostile: Any, status: int, answer: Any) -> list[tuple[str, str]]:
    """Hold that a request was answered or refused with words, and return the refusals."""
    shown = f"{place.name}: {str(hostile)[:60]!a}, {status} {str(answer)[:500]!a}"
    assert status in (200, 400), shown
    refusals = _refusals(answer)
    assert "INTERNAL" not in {code for code, _ in refusals}, shown
    assert all(code and 10 < len(message) < 1_000 for code, message in refusals), shown
    assert refusals or answer.get("data"), shown
    return refusals


async def test_no_text_in_a_query_breaks_anything(
    server: TestServer, places: Places, schema: GraphQLSchema
) -> None:
    """Every text in every argument that a query can have is answered or refused in words (protects the server)."""
    assert schema.query_type is not None
    found = list(places.of(schema.query_type, "query"))
    assert {"people.filter.search", "people.after", "batchOptions.scope.grades.0"} <= {p.name for p in found}
    pairs = [(place, hostile) for place in found for hostile in place.hostile]

    async def send(mine: list[tuple[Place, Any]]) -> None:
        for place, hostile in mine:
            _hold_answer(place, hostile, *await _send(server, place, hostile))

    await asyncio.gather(*(send(pairs[n::_AT_ONCE]) for n in range(_AT_ONCE)))


async def test_no_text_in_a_mutation_breaks_anything_or_is_half_written(
    server: TestServer, places: Places, schema: GraphQLSchema, district: DistrictBuilder
) -> None:
    """Every text in every argument of a mutation is taken, or refused in words with nothing written (D28)."""
    assert schema.mutation_type is not None
    found = list(places.of(schema.mutation_type, "mutation"))
    assert "saveFilter.input.name" in {place.name for place in found}
    for place in found:
        for hostile in place.hostile:
            before = await district.conn.fetchrow(_WRITTEN, district.id)
            refusals = _hold_answer(place, hostile, *await _send(server, place, hostile))
            after = await district.conn.fetchrow(_WRITTEN, district.id)
            assert not refusals or after == before, (place.name, str(hostile)[:60], refusals)


_CELL = {"contactPoint": "CELL_PHONE", "reason": "EMERGENCY", "set": "ON"}
_PREFERENCE = {"contactPoint": "CELL_PHONE", "method": "TEXT", "reason": "EMERGENCY", "on": True}
_BATCH = {"mode": "STUDENTS", "cells": [_CELL], "dryRun": True}
_PEOPLE = "query ($value: PersonFilter) { people(filter: $value) { edges { cursor } } }"
_SET = "mutation ($value: SetPreferencesInput!) { setPreferences(input: $value) { userErrors { code message } } }"
_RUN = (
    "mutation ($value: BatchSetPreferencesInput!)"
    " { batchSetPreferences(input: $value) { userErrors { code message } } }"
)
_SAVE = "mutation ($value: SaveFilterInput!) { saveFilter(input: $value) { userErrors { code message } } }"


_BEYOND: list[tuple[str, Any, str, str]] = [
    (_PEOPLE, {"search": "x" * 201}, "INVALID_ARGUMENT", "`search`: A search has at most 200 characters"),
    (_PEOPLE, {"search": "x " * 200_000}, "INVALID_ARGUMENT", "this has 400,000"),
    (_PEOPLE, {"search": "x " * 11}, "INVALID_ARGUMENT", "At most 10 words"),
    (_PEOPLE, {"sourceId": "x" * 121}, "INVALID_ARGUMENT", "`sourceId`: A source id has at most 120"),
    (_PEOPLE, {"schoolId": "x" * 101}, "INVALID_ARGUMENT", "`schoolId`: An id of this API has at most 100"),
    (_PEOPLE, {"grade": "x" * 101}, "INVALID_ARGUMENT", "`grade`: A label"),
    (_PEOPLE, {"ids": ["person_1"] * 1_001}, "INVALID_ARGUMENT", "`ids`: At most 1,000 ids"),
    ("query ($value: ID!) { person(id: $value) { id } }", "x" * 101, "INVALID_ARGUMENT", "`id`: An id"),
    ("query ($value: ID!) { node(id: $value) { id } }", "x" * 101, "INVALID_ARGUMENT", "`id`: An id"),
    (
        "query ($value: String) { people(after: $value) { edges { cursor } } }",
        "x" * 8_001, "INVALID_ARGUMENT", "`after`: A cursor has at most 8,000",
    ),
    (_SET, {"personId": "person_1", "cells": [_PREFERENCE] * 1_001}, "TOO_MANY_CELLS", "At most 1,000 cells"),
    (_RUN, {**_BATCH, "cells": [_CELL] * 1_001}, "TOO_MANY_CELLS", "At most 1,000 cells"),
    (_RUN, {**_BATCH, "scope": {"schoolIds": ["school_1"] * 1_001}}, "TOO_MANY_SCHOOLS", "1,000 schools"),
    (_RUN, {**_BATCH, "scope": {"grades": ["09"] * 101}}, "TOO_MANY_GRADES", "At most 100 grades"),
    (_RUN, {**_BATCH, "scope": {"grades": ["9" * 101]}}, "INVALID_GRADE", "at most 100 characters"),
    (
        _SAVE, {"name": "A\nB", "kind": "STUDENT", "criteria": {"field": "grade", "is": "09"}},
        "INVALID_NAME", "A name is one line of 1 to 100 characters",
    ),
    (
        _SAVE, {"name": "A", "kind": "STUDENT", "criteria": {"field": "person", "is": "person_\0"}},
        "INVALID_CRITERIA", "an id, as this API gave it",
    ),
]  # fmt: skip


async def test_what_is_beyond_a_limit_is_told_which(server: TestServer) -> None:
    """Every text and list has a limit; who goes beyond it hears which, and where (protects the server)."""
    for document, value, code, words in _BEYOND:
        body = {"query": document, "variables": {"value": value}}
        status, answer = await server.post(body, token=server.token())
        assert status == 200, answer
        (refusal,) = [refusal for refusal in _refusals(answer) if refusal[0] == code]
        assert words in refusal[1]
