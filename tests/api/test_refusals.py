"""What is refused of a query says where, and takes nothing else with it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    async with serving(db, host, "maple") as server:
        yield server


async def asked(server: TestServer, query: str, role: Role = Role.ADMIN, **more: Any) -> Any:
    status, answer = await server.post({"query": query, **more}, token=server.token(role, "P1"))
    assert status == 200, answer
    return answer


PAGE = "{ edges { cursor } }"
REFUSED = {
    "a role": (f"batchRuns {PAGE}", Role.GUARDIAN, "FORBIDDEN"),
    "a list of a role": ("plugins { name }", Role.VENDOR, "FORBIDDEN"),
    "a page size": (f"people(first: 0) {PAGE}", Role.ADMIN, "INVALID_ARGUMENT"),
    "a cursor": (f'households(after: "x") {PAGE}', Role.ADMIN, "INVALID_ARGUMENT"),
    "a mode": ('batchOptions(mode: "NOBODY") { population }', Role.ADMIN, "UNKNOWN_MODE"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_root_field_leaves_its_neighbours(server: TestServer, name: str) -> None:
    """A field refused for its role, argument or scope is null, with path and place; the others are answered."""
    field, role, code = REFUSED[name]
    for _ in range(2):  # the second time the statement is known
        answer = await asked(
            server, f"{{\n  headRevision\n  x: {field}\n  contactReasons {{ bit: code }}\n}}", role
        )
        assert answer["data"]["x"] is None
        assert answer["data"]["headRevision"] == "0"
        assert answer["data"]["contactReasons"]
        [error] = answer["errors"]
        assert error["extensions"]["code"] == code
        assert (error["path"], error["locations"]) == (["x"], [{"line": 3, "column": 3}])


async def test_a_variable_refuses_one_request_alone(server: TestServer) -> None:
    """A value out of range makes its own request's field null; the next request with a good value is answered."""
    query = f"query ($n: Int!) {{ headRevision people(first: $n) {PAGE} }}"
    for n, good in ((0, False), (1, True), (101, False), (2, True)):
        answer = await asked(server, query, variables={"n": n})
        assert (answer["data"]["people"] is not None) is good
        assert answer["data"]["headRevision"] == "0"
        assert ("errors" in answer) is not good


@pytest.mark.parametrize(
    ("query", "path", "null"),
    [
        (
            "viewer { role person { history(first: 0) %s } }",
            ["viewer", "person", "history"],
            ["viewer", "person"],
        ),
        (
            "people { edges { node { history(first: 0) %s } } }",
            ["people", "edges", "node", "history"],
            ["people"],
        ),
        (
            "batchRuns { edges { node { queuedBehind { exclusions(first: 0) %s } } } }",
            ["batchRuns", "edges", "node", "queuedBehind", "exclusions"],
            ["batchRuns"],
        ),
    ],
)
async def test_the_nearest_nullable_ancestor_outside_of_lists_is_null(
    server: TestServer, district: DistrictBuilder, query: str, path: list[str], null: list[str]
) -> None:
    """A field refused within others makes the nearest one null that can be, and is told once, whatever the rows."""
    for n in range(3):
        await district.person(f"Ada Lane{n}", source_id=f"P{n}")
    answer = await asked(server, f"{{ headRevision {query % PAGE} }}")
    [error] = answer["errors"]
    assert error["path"] == path
    found = answer["data"]
    for key in null[:-1]:
        found = found[key]
    assert found[null[-1]] is None
    assert answer["data"]["headRevision"] == "0"


async def test_every_refused_field_is_told(server: TestServer) -> None:
    """Several refused fields are several errors, each with its own path; no more than twenty are told."""
    answer = await asked(
        server, f"{{ a: people(first: 0) {PAGE} b: plugins {{ name }} headRevision }}", Role.GUARDIAN
    )
    assert [error["path"] for error in answer["errors"]] == [["a"], ["b"]]
    assert answer["data"] == {"a": None, "b": None, "headRevision": "0"}
    many = " ".join(f"history{n % 15}: history(first: 0) {PAGE}" for n in range(15))
    answer = await asked(server, f"{{ viewer {{ person {{ {many} }} }} }}")
    assert len(answer["errors"]) == 15


SET = 'mutation ($r: Revision) { %s(input: {%s: "x_1", ifRevision: %s, cells: [%s]}) { userErrors { message } } }'


@pytest.mark.parametrize(
    ("mutation", "of", "contact_point", "other"),
    [
        ("setPreferences", "personId", "HOUSEHOLD_PHONE", "`setHouseholdPreferences`"),
        ("setHouseholdPreferences", "householdId", "CELL_PHONE", "`setPreferences`"),
    ],
)
async def test_a_channel_of_the_other_mutation_names_it(
    server: TestServer, mutation: str, of: str, contact_point: str, other: str
) -> None:
    """A channel that is set elsewhere is refused with where that is (D5)."""
    cell = f'{{contactPoint: {contact_point}, method: VOICE, reason: "GENERAL", on: true}}'
    answer = await asked(
        server, SET.replace("$r: Revision", "").replace(" ()", "") % (mutation, of, '"1"', cell)
    )
    assert other in answer["data"][mutation]["userErrors"][0]["message"]


@pytest.mark.parametrize(("literal", "given"), [('"abc"', None), ("$r", "abc")])
async def test_a_value_that_is_none_says_where(server: TestServer, literal: str, given: str | None) -> None:
    """A value that its scalar does not take is refused in words, with its place in the document."""
    document = SET % ("setPreferences", "personId", literal, "")
    document = document if given else document.replace(" ($r: Revision)", "")
    body = {"query": document, "variables": {"r": given} if given else {}}
    _, answer = await server.post(body, token=server.token())
    [error] = answer["errors"]
    assert "A revision is a whole number from an earlier answer" in error["message"]
    column = document.index("$r" if given else '"abc"') + 1
    assert error["locations"] == [{"line": 1, "column": column}]
