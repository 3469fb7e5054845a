"""Compiled reads, case by case: every argument by itself, every field, pages, and what once went wrong."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from graphql import Undefined, is_non_null_type
from pydantic import SecretStr

from gql_server.api.auth import Tokens
from gql_server.app import make_app
from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.settings import Settings
from tests.support import random_district as size
from tests.support.answers import IDS, PRODUCT, World, agree, compiled, load_world, naive
from tests.support.documents import BAD_IDS, Query
from tests.support.wide import called

pytestmark = pytest.mark.slow


@pytest.fixture
async def world(db: Pool, host: PluginHost) -> World:
    return await load_world(db, host)


# ── every value by itself ───────────────────────────────────────────────────────────────────────

_FILTERS: Sequence[dict[str, Any]] = [
    *({"search": text} for text in ("a", "ADA", "öz", "lane a", "van", "", "%", "x\0y")),
    *({"sourceId": text} for text in ("P1", "p1", "", "O'x")),
    *({"grade": text} for text in ("09", "9", "010", "KG", "kg", "0", "")),
    *({"schoolId": school} for school in (*IDS["school"], *BAD_IDS)),
    *({"audience": audience} for audience in ("STUDENTS", "STUDENT_CONTACTS", "STAFF")),
    *({"withoutMessengerContact": flag} for flag in (True, False)),
    *({"ids": ids} for ids in ([], ["person_3", "person_1"], BAD_IDS)),
]
_SCOPES: Sequence[dict[str, Any]] = [
    {},
    *({"schoolIds": [school]} for school in (*IDS["school"], *BAD_IDS)),
    *({"schoolYear": year} for year in (2025, 2026, 2027)),
    *({"grades": grades} for grades in ([], ["09"], ["9", "10"], ["009"], ["10", "13", ""], ["kg"], ["x\0"])),
    *({"filterId": saved} for saved in (*IDS["filter"], *BAD_IDS)),
    {"schoolIds": [], "filterId": "filter_1"},
]
_PEOPLE = [*(f"P{n}" for n in range(1, size.PEOPLE)), "nobody"]
_MODES = ("STUDENTS", "STUDENT_CONTACTS", "CENSUS_STAFF")
_EACH: Mapping[str, tuple[str, Sequence[tuple[Role, str | None, dict[str, Any]]]]] = {
    "people": (
        "query ($x: PersonFilter) { people(filter: $x) { edges { node { id active } } } }",
        [(role, person, {"x": x}) for x in _FILTERS for role, person in ((Role.ADMIN, None), (Role.GUARDIAN, "P5"))],
    ),
    "batchOptions": (
        "query ($m: ModeCode!, $x: BatchScope!) { batchOptions(mode: $m, scope: $x)"
        " { population cells { contactPoint reason enabled because reachable } } }",
        [(Role.ADMIN, None, {"m": m, "x": x}) for x in _SCOPES for m in _MODES],
    ),
    "viewer": (
        "{ viewer { role canChangeOwnPreferences whyNot person { id } } }",
        [(role, person, {}) for role in Role for person in _PEOPLE],
    ),
}  # fmt: skip
"""For each of these fields: a query, and who asks it with which variables."""


@pytest.mark.parametrize("name", _EACH)
async def test_every_argument_means_what_the_rules_say(world: World, host: PluginHost, name: str) -> None:
    """Each filter, scope and viewer by itself selects whom the plain rules select (D6-D9, D12, D15, D23, D25)."""
    text, asks = _EACH[name]
    for asked in world.districts:
        for role, person, variables in asks:
            context = world.client.context(asked.district, role, person)
            query = Query(text, variables)
            answer = await compiled(world.client, context, query)
            expected = naive(asked, context.viewer, host, query)
            assert agree(answer, expected, query), f"{role} {person} {variables}:\n{answer}\n{expected}"


@pytest.mark.parametrize("role", Role)
async def test_every_field_says_what_the_rules_say(world: World, host: PluginHost, role: Role) -> None:
    """All fields of all objects within three rows' depth, as each role sees them (D1-D6, D27)."""
    query_type = PRODUCT.graphql.query_type
    assert query_type is not None
    for name, field in query_type.fields.items():
        link = PRODUCT.links["Query", name]
        needs = [a for a in field.args.values() if is_non_null_type(a.type) and a.default_value is Undefined]
        if needs or (link.roles is not None and role not in link.roles):
            continue
        query = Query(f"{{ {called(PRODUCT.graphql, name, field, 2)} }}", {})
        for asked in world.districts:
            context = world.client.context(asked.district, role, "P5")
            answer = await compiled(world.client, context, query)
            assert answer == naive(asked, context.viewer, host, query), f"{asked.district.code}: {name}"


# ── walks, and what once went wrong ─────────────────────────────────────────────────────────────

_PAGED = {
    "people": "PersonConnection",
    "households": "HouseholdConnection",
    "batchRuns": "BatchRunConnection",
}


@pytest.mark.parametrize("name", _PAGED)
@pytest.mark.parametrize("first", [1, 2, 3, 100])
async def test_pages_lead_through_everything_once(world: World, name: str, first: int) -> None:
    """Following `endCursor` while `hasNextPage` says so gives every row once, in the order of the whole list."""
    asked = world.districts[0]
    page = f"{name}(first: $n, after: $c) {{ edges {{ cursor }} pageInfo {{ hasNextPage endCursor }} }}"
    context, walked, cursor = world.client.context(asked.district), [], None
    while True:
        data = await world.client.query(
            context, f"query ($n: Int!, $c: String) {{ {page} }}", {"n": first, "c": cursor}
        )
        walked += [edge["cursor"] for edge in data[name]["edges"]]
        cursor = data[name]["pageInfo"]["endCursor"]
        if not data[name]["pageInfo"]["hasNextPage"]:
            break
    assert walked == asked.cursors[_PAGED[name]]


REGRESSIONS = {
    "an enum in a variable": Query(
        "query ($f: PersonFilter) { people(filter: $f) { edges { node { id } } } }",
        {"f": {"audience": "STUDENTS"}},
    ),
    "a bare scalar": Query("{ headRevision }", {}),
    "fields that swap names": Query(
        "{ people { edges { node { firstName: lastName lastName: firstName } } } }", {}
    ),
    "a type told by its id": Query(
        'query ($id: ID!) { node(id: $id) { id ... on Person { firstName } } s: node(id: "school_1") { __typename } }',
        {"id": "person_1"},
    ),
    "a key of another kind in a cursor": Query(
        # [1, false, 1, "FAX", 0]
        "query ($c: String) { batchRuns { edges { node { exclusions(after: $c) { edges { cursor } } } } } }",
        {"c": "WzEsIGZhbHNlLCAxLCAiRkFYIiwgMF0="},
    ),
    "null where the argument takes none": Query(
        "query ($n: Int) { people(first: $n) { edges { cursor } } }", {"n": None}
    ),
    "null in a directive": Query(
        "query ($n: Boolean = true) { schools { id @include(if: $n) } }", {"n": None}
    ),
}


@pytest.mark.parametrize("query", REGRESSIONS.values(), ids=REGRESSIONS.keys())
async def test_what_once_differed(world: World, host: PluginHost, query: Query) -> None:
    """The compiled statement and graphql-core agree on what they once did not."""
    context = world.client.context(world.districts[0].district)
    answer = await compiled(world.client, context, query)
    expected = naive(world.districts[0], context.viewer, host, query)
    assert agree(answer, expected, query), f"{answer}\n{expected}"


@pytest.fixture
async def ask(world: World, db: Pool, host: PluginHost) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Asks a server over HTTP, as an administrator of the first district."""
    key = "the signing key of this test, and of no server"
    token = Tokens(key).issue(world.districts[0].district.code, Role.ADMIN, None, timedelta(hours=1))
    app = make_app(Settings(signing_key=SecretStr(key)), db, host)
    async with TestClient(TestServer(app)) as client:

        async def send(text: str, variables: dict[str, Any]) -> Any:
            headers = {"Authorization": f"Bearer {token}"}
            body = {"query": text, "variables": variables}
            return await (await client.post("/graphql", json=body, headers=headers)).json()

        yield send


async def test_introspection_beside_data_changes_no_data(ask: Callable[..., Awaitable[Any]]) -> None:
    """A query that graphql-core executes for its introspection shows the same data as the compiled one."""
    fields = (
        'headRevision node(id: "person_1") { id ... on Person { lastName history { edges { cursor } } } }'
        " people(first: 2) { edges { node { firstName households(activeOnly: false) { active } } } }"
    )
    plain = await ask(f"{{ {fields} }}", {})
    introspected = await ask(f"{{ __schema {{ queryType {{ name }} }} {fields} }}", {})
    assert introspected["data"].pop("__schema") == {"queryType": {"name": "Query"}}
    assert "errors" not in plain
    assert introspected == plain


async def test_null_in_a_variable_is_the_callers_to_put_right(ask: Callable[..., Awaitable[Any]]) -> None:
    """A null that an argument does not take is told as what it is, not as a fault of the server."""
    query = REGRESSIONS["null where the argument takes none"]
    answer = await ask(query.text, query.variables)
    assert answer["data"] == {"people": None}
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["GRAPHQL_VALIDATION_FAILED"]
    assert "$n" in answer["errors"][0]["message"]
