"""A token of one district reaches nothing of another: every query and mutation there is, over HTTP."""

import datetime
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from graphql import (
    GraphQLArgument,
    GraphQLField,
    Undefined,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    print_type,
)
from pydantic import SecretStr

from gql_server.api.auth import Tokens
from gql_server.api.schema import build_schema
from gql_server.app import make_app
from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.settings import Settings
from tests.support.marked_district import Marked, marked_district
from tests.support.naive_rules import Tables, load_tables
from tests.support.wide import everything

pytestmark = pytest.mark.slow

SCHEMA = build_schema().graphql
KEY = "the signing key of this test, and of no server"
ROLES = {Role.ADMIN: None, Role.VENDOR: None, Role.GUARDIAN: "mia", Role.STUDENT: "sam", Role.STAFF: "tom"}
NUMBER = 9_000_001  # no row has it

REFUSALS = {"FORBIDDEN", "UNKNOWN_SCHOOL", "UNKNOWN_FILTER"}
"""The codes of errors that stand in the place of data; those of mutations are `userErrors`."""

Ids = Callable[[str, str], str]
"""Gives an id of a kind, such as "person", for a name, such as "mia"."""
Arguments = Callable[[Ids], Mapping[str, Any]]

ON = [{"contactPoint": "EMAIL", "reason": "EMERGENCY", "set": "ON"}]
PERSON_ON = [{"contactPoint": "EMAIL", "method": "EMAIL", "reason": "GENERAL", "on": True}]
HOME_ON = [{"contactPoint": "HOUSEHOLD_PHONE", "method": "VOICE", "reason": "GENERAL", "on": True}]


def none(ids: Ids) -> Mapping[str, Any]:
    return {}


def by_id(kind: str, name: str) -> Arguments:
    return lambda ids: {"id": ids(kind, name)}


def batch(**scope: Callable[[Ids], Any]) -> Arguments:
    """Return a batch whose scope is made of ids."""
    return lambda ids: {
        "input": {
            "mode": "STUDENTS", "cells": ON, "waitSeconds": 20,
            "scope": {name: value(ids) for name, value in scope.items()},
        }
    }  # fmt: skip


def criteria(field: str, kind: str, name: str) -> Arguments:
    """Return a new filter that names an id."""
    return lambda ids: {
        "input": {
            "name": f"Of {ids(kind, name)}"[:90], "kind": "STUDENT",
            "criteria": {"field": field, "is": ids(kind, name)},
        }
    }  # fmt: skip


ARGUMENTS: Mapping[str, Sequence[Arguments]] = {
    "viewer": [none],
    "node": [
        by_id(kind, name)
        for kind, name in (
            ("person", "mia"), ("household", "home"), ("school", "elm"), ("run", "done"),
            ("filter", "STUDENT"), ("optout", "mia"),
        )
    ],
    "person": [by_id("person", "mia")],
    "people": [
        none,
        lambda ids: {"filter": {"ids": [ids("person", "mia")]}},
        lambda ids: {"filter": {"schoolId": ids("school", "elm")}},
        lambda ids: {"filter": {"sourceId": "maple:boss:source_id"}},
        lambda ids: {"filter": {"search": "maple:mia"}},
    ],
    "household": [by_id("household", "home")],
    "households": [none],
    "schools": [none],
    "contactReasons": [none],
    "batchModes": [none],
    "plugins": [none],
    "headRevision": [none],
    "batchOptions": [
        lambda ids: {"mode": "STUDENTS"},
        lambda ids: {"mode": "STUDENTS", "scope": {"schoolIds": [ids("school", "elm")]}},
        lambda ids: {"mode": "STUDENT_CONTACTS", "scope": {"filterId": ids("filter", "STUDENT")}},
        lambda ids: {"mode": "CENSUS_STAFF", "scope": {"filterId": ids("filter", "CENSUS")}},
    ],
    "batchRun": [by_id("run", "done")],
    "batchRuns": [none],
    "savedFilters": [none],
    "batchSetPreferences": [
        batch(),
        batch(schoolIds=lambda ids: [ids("school", "elm")]),
        batch(filterId=lambda ids: ids("filter", "STUDENT")),
    ],
    "applyBatch": [by_id("run", "planned")],
    "cancelBatch": [by_id("run", "planned")],
    "revertBatch": [by_id("run", "done")],
    "setPreferences": [lambda ids: {"input": {"personId": ids("person", "mia"), "cells": PERSON_ON}}],
    "setHouseholdPreferences": [
        lambda ids: {"input": {"householdId": ids("household", "home"), "cells": HOME_ON}}
    ],
    "saveFilter": [
        criteria("school", "school", "elm"),
        criteria("person", "person", "sam"),
        lambda ids: {
            "input": {
                "id": ids("filter", "STUDENT"), "name": "Taken over", "kind": "STUDENT",
                "criteria": {"field": "activeEnrollment", "is": False},
            }
        },
    ],
    "deleteFilter": [by_id("filter", "STUDENT")],
}  # fmt: skip
"""How to call each query and mutation with ids of another district."""


def operations() -> dict[str, tuple[str, GraphQLField]]:
    """Return the fields of the query and the mutation type, each with the word it is asked by."""
    assert SCHEMA.query_type
    assert SCHEMA.mutation_type
    found = {name: ("query", field) for name, field in SCHEMA.query_type.fields.items()}
    return found | {name: ("mutation", field) for name, field in SCHEMA.mutation_type.fields.items()}


CALLS = [(name, n) for name, calls in ARGUMENTS.items() for n in range(len(calls))]


def test_every_operation_is_called() -> None:
    """A query or mutation that nobody calls with another district's ids here fails this test."""
    missing = operations().keys() - ARGUMENTS.keys()
    assert not missing, f"say in ARGUMENTS how to call {sorted(missing)} with ids of another district"
    assert not ARGUMENTS.keys() - operations().keys()
    for name, (_, field) in operations().items():
        takes_id = any("ID" in print_type_of(argument.type) for argument in field.args.values())
        gives_id = any(arguments is not none for arguments in ARGUMENTS[name])
        assert gives_id or not takes_id, f"call {name} with an id of another district"


def print_type_of(type_: Any) -> str:
    """Return a type in words, with what an input object holds."""
    named = get_named_type(type_)
    inner = getattr(named, "fields", {})
    return f"{type_} {print_type(named)} {' '.join(print_type_of(each.type) for each in inner.values())}"


# ── two districts and a server ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Neighbours:
    """Two districts and a server."""

    first: Marked
    second: Marked
    db: Pool
    client: Any

    async def ask(self, district: Marked, role: Role, name: str, arguments: Mapping[str, Any]) -> Any:
        """Return the answer to one call with a token of a district."""
        token = Tokens(KEY).issue(district.code, role, ROLES[role], datetime.timedelta(hours=1))
        response = await self.client.post(
            "/graphql",
            json={"query": document(name), "variables": dict(arguments)},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert response.status == 200
        return await response.json()

    async def rows(self, district: Marked) -> Tables:
        async with self.db.acquire() as conn:
            return await load_tables(conn, district.builder.id)


@pytest.fixture
async def neighbours(db: Pool, host: PluginHost) -> AsyncIterator[Neighbours]:
    async with db.transaction() as conn:
        first = await marked_district(conn, host, "maple")
        second = await marked_district(conn, host, "birch")
    settings = Settings(
        signing_key=SecretStr(KEY),
        batch_poll_seconds=0.1,
        max_tokens=100_000,
        max_aliases=1_000,
        max_selections=100_000,
        max_document_characters=1_000_000,
    )
    settings = settings.model_copy(
        update={
            f"max_{of}{what}": 10**9 for of in ("", "portal_") for what in ("price", "statement_characters")
        }
    )
    async with TestClient(TestServer(make_app(settings, db, host))) as client:
        yield Neighbours(first, second, db, client)


def document(name: str) -> str:
    """Return an operation that calls a field with all of its arguments as variables, and asks for all it can."""
    word, field = operations()[name]
    variables = ", ".join(f"${key}: {_type(argument)}" for key, argument in field.args.items())
    arguments = ", ".join(f"{key}: ${key}" for key in field.args)
    head = f"{word}({variables}) {{ {name}({arguments})" if variables else f"{word} {{ {name}"
    target = get_named_type(field.type)
    if is_leaf_type(target):
        return f"{head} }}"
    return f"{head} {everything(SCHEMA, target, 3 if word == 'mutation' else 2)} }}"


def _type(argument: GraphQLArgument) -> str:
    """Return the type of a variable: one that need not be given where the argument has a default."""
    return str(argument.type if argument.default_value is Undefined else get_nullable_type(argument.type))


def unknown(kind: str, name: str) -> str:
    return f"{kind}_{NUMBER}"


def malformed(kind: str, name: str) -> str:
    return f"{kind}_0x1"


def of_first(neighbours: Neighbours) -> Ids:
    return lambda kind, name: f"{kind}_{neighbours.first.ids[kind][name]}"


def marks(value: object) -> set[str]:
    return set(re.findall(r"maple:\w+:\w+", json.dumps(value)))


def leaks(answer: object, first: Marked) -> set[str]:
    """Return what of the first district is in an answer: marked values, and ids of objects."""
    numbers = {f"{kind}_{n}" for kind, of in first.ids.items() for n in of.values()}
    ids = set(re.findall(r'"(?:\w*_)?id": "(\w+)"', json.dumps(answer)))
    return marks(answer) | (ids & numbers)


def without_ids(answer: object) -> str:
    """Return an answer as text in which all ids look the same."""
    return re.sub(r"\b(person|household|school|run|filter|optout)_(0x1|\d+)", r"\1_N", json.dumps(answer))


@pytest.mark.parametrize(("name", "number"), CALLS)
async def test_nothing_of_another_district_is_reached(neighbours: Neighbours, name: str, number: int) -> None:
    """Ids of another district show nothing, change nothing there, and answer as ids that nobody has (D27)."""
    arguments = ARGUMENTS[name][number]
    foreign = of_first(neighbours)
    before = await neighbours.rows(neighbours.first)
    for role in ROLES:
        answers = []
        for ids in (foreign, unknown, malformed):
            answer = await neighbours.ask(neighbours.second, role, name, arguments(ids))
            assert {each["extensions"]["code"] for each in answer.get("errors", [])} <= REFUSALS
            assert leaks(answer, neighbours.first) <= marks(arguments(ids))
            answers.append(answer)
        if arguments(foreign) != arguments(unknown):
            assert len(set(map(without_ids, answers))) == 1, answers
    assert await neighbours.rows(neighbours.first) == before


@pytest.mark.parametrize(("name", "number"), CALLS)
async def test_the_same_call_reaches_ones_own(neighbours: Neighbours, name: str, number: int) -> None:
    """The calls are good ones: with a token of the district whose ids they name, each of them finds something."""
    arguments = ARGUMENTS[name][number]
    own = await neighbours.ask(neighbours.first, Role.ADMIN, name, arguments(of_first(neighbours)))
    assert "errors" not in own
    answer = own["data"][name]
    assert not (isinstance(answer, dict) and answer.get("userErrors"))
    if arguments(of_first(neighbours)) != arguments(unknown):
        none_found = await neighbours.ask(neighbours.first, Role.ADMIN, name, arguments(unknown))
        assert without_ids(own) != without_ids(none_found)
