"""The price of a query: what it may ask for is known before it is compiled, and bounds hold where they are promised."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from graphql import GraphQLObjectType, get_nullable_type, is_list_type

from gql_server.api.schema import build_schema
from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.reads.links import RowsLink
from tests.support.builder import DistrictBuilder
from tests.support.counting import CountingDatabase
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

LEVELS = 3
DOUBLED = (
    "{ " + " ".join(f"a{n}: viewer {{ person {{ ...F0 }} }}" for n in range(8)) + " } "
    + " ".join(
        f"fragment F{n} on Person {{ students {{ student {{ ...F{n + 1} }} contact {{ ...F{n + 1} }} }}"
        f" contacts {{ student {{ ...F{n + 1} }} contact {{ ...F{n + 1} }} }} }}" for n in range(LEVELS)
    )
    + f" fragment F{LEVELS} on Person {{ id }}"
)  # fmt: skip
FAMILY = """{ viewer { role whyNot person {
  firstName contactPoints { kind value } preferences { contactPoint method on chosen }
  students { kind student { id firstName enrollments { grade school { name } }
    households { household { name phone preferences { method on } members { person { firstName } } } } } }
} } contactReasons { code label } }"""
PEOPLE = """{ people { edges { node { firstName contactPoints { kind value } preferences { contactPoint method on }
  households { household { name phone preferences { method on } members { person { firstName } } } }
  students { student { id } messenger } enrollments { grade school { name } } } } } schools { id name } }"""
SYNC = """query ($first: Int!, $after: String) { headRevision people(first: $first, after: $after) {
  edges { node { id sourceId firstName lastName active contactPoints { kind value }
    preferences { contactPoint method value on chosen } contacts { kind messenger noContact contact { id } }
    enrollments { grade school { id } } households { household { id phone } } } }
  pageInfo { hasNextPage endCursor } } }"""
SUBMIT = """mutation ($input: BatchSetPreferencesInput!) {
  batchSetPreferences(input: $input) { run { id %s } userErrors { code } } }"""
ORDER = {
    "mode": "STUDENTS",
    "cells": [{"contactPoint": "EMAIL", "reason": "GENERAL", "set": "ON"}],
    "waitSeconds": 0,
}
DEEP_RUNS = """queuedBehind { exclusions(first: 10000) { edges { node { person {
  history(first: 100) { edges { cursor } } } } } } }"""


@pytest.fixture
async def counting(db: Pool) -> CountingDatabase:
    return CountingDatabase(db)


@pytest.fixture
async def server(
    counting: CountingDatabase, host: PluginHost, district: DistrictBuilder
) -> AsyncIterator[TestServer]:
    async with serving(counting, host, "maple") as server:
        yield server


async def asked(
    server: TestServer, query: str, role: Role = Role.ADMIN, person: str | None = None, **more: Any
) -> Any:
    status, answer = await server.post({"query": query, **more}, token=server.token(role, person))
    assert status == 200, answer
    return answer


def refusal(answer: Any) -> tuple[str, str]:
    """Return code and words of the one error."""
    [error] = answer["errors"]
    return error["extensions"]["code"], error["message"]


# ── before anything is compiled ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", [Role.GUARDIAN, Role.ADMIN, Role.VENDOR])
async def test_doubled_fragments_are_refused_before_the_database_is_asked(
    server: TestServer, counting: CountingDatabase, role: Role
) -> None:
    """A short document that grows at each level is refused, with price, budget and field, and never reaches SQL."""
    await asked(server, "{ headRevision }", role, "P1")
    counting.statements.clear()
    answer = await asked(server, DOUBLED, role, "P1")
    code, words = refusal(answer)
    assert (code, answer["data"]) == ("QUERY_TOO_EXPENSIVE", None)
    assert "has a price of" in words
    assert f"budget of the role {role}" in words
    assert "`a0" in words
    assert not any("json_build_object" in text for text in counting.statements)


async def test_page_sizes_count_wherever_they_come_from(server: TestServer) -> None:
    """A page size in a variable is priced for each request, also where the statement is known."""
    query = "query ($n: Int!) { people(first: $n) { edges { node { history(first: $n) { edges { cursor } } } } } }"
    for n, over in ((2, False), (100, False), (1_000, True), (3, False), (1_000, True)):
        answer = await asked(server, query, Role.VENDOR, variables={"n": n})
        assert ("errors" in answer) is over, answer
        if over:
            assert refusal(answer)[0] == "QUERY_TOO_EXPENSIVE"


async def test_what_users_need_fits(server: TestServer) -> None:
    """A portal's page of a whole family, and a vendor's page of a thousand people with all that hangs on them."""
    family = await asked(server, FAMILY, Role.GUARDIAN, "P1", extensions={"price": True})
    assert "errors" not in family, family
    page = await asked(server, SYNC, Role.VENDOR, variables={"first": 1_000}, extensions={"price": True})
    assert "errors" not in page, page
    for answer in (family, page):
        assert 0 < answer["extensions"]["price"]["price"] <= answer["extensions"]["price"]["budget"]


async def test_each_history_costs_the_search_of_a_log(server: TestServer) -> None:
    """A vendor's page of a thousand people with the newest changes of each fits, but not with fifteen histories of
    each, however short: every one is searched for in the log."""
    newest = " ".join(f"a{n}: history(first: 1) {{ edges {{ cursor }} }}" for n in range(15))
    whole = "history(first: 50) { edges { node { revision } } }"
    for inner, over in ((whole, False), (newest, True)):
        query = f"{{ people(first: 1000) {{ edges {{ node {{ id {inner} }} }} }} }}"
        answer = await asked(server, query, Role.VENDOR)
        assert ("errors" in answer) is over, answer
        if over:
            assert refusal(answer)[0] == "QUERY_TOO_EXPENSIVE"
    family = "{ viewer { person { students { student { history(first: 10) { edges { node { at } } } } } } } }"
    assert "errors" not in await asked(server, family, Role.GUARDIAN, "P1")


async def test_the_plain_family_page_and_pages_by_id_fit(server: TestServer) -> None:
    """A guardian's page of all they see, schools beside it, with the default `first`; several small pages; ids."""
    answer = await asked(server, PEOPLE, Role.GUARDIAN, "P1")
    assert "errors" not in answer, answer
    small = "people(first: 2{}) {{ edges {{ node {{ id }} }} }}"
    six = " ".join(f"a{n}: " + small.format("") for n in range(6))
    assert "errors" not in await asked(server, f"{{ {six} }}", Role.GUARDIAN, "P1")
    by_id = " ".join(f"a{n}: " + small.format(', filter: { ids: ["person_1"] }') for n in range(8))
    for role in (Role.VENDOR, Role.ADMIN):
        assert "errors" not in await asked(server, f"{{ {by_id} }}", role)
    eight = " ".join(f"a{n}: " + small.format("") for n in range(8))
    code, words = refusal(await asked(server, f"{{ {eight} }}", Role.VENDOR))
    assert code == "QUERY_TOO_EXPENSIVE"
    assert "Reading `people` costs 80,000 each time it is asked: ask for it once, or by id." in words
    assert "`first`" not in words


async def test_the_price_is_told_where_it_is_asked_for(server: TestServer, district: DistrictBuilder) -> None:
    """`extensions: {"price": true}` gives the price beside the answer of a query and of a mutation."""
    assert "extensions" not in await asked(server, "{ headRevision }")
    answer = await asked(
        server, "{ headRevision people(first: 0) { edges { cursor } } }", extensions={"price": True}
    )
    assert list(answer) == ["data", "errors", "extensions"]
    assert answer["extensions"] == {"price": {"price": 1, "budget": 500_000}}
    await district.student(await district.school(), email="a@b.example")
    answer = await asked(server, SUBMIT % "", variables={"input": ORDER}, extensions={"price": True})
    assert answer["data"]["batchSetPreferences"]["run"]["id"]
    assert answer["extensions"]["price"]["price"] > 0


@pytest.mark.parametrize("beside", ["__schema { queryType { name } }", 's: __type(name: "Person") { name }'])
async def test_introspection_beside_data_costs_what_the_data_costs(server: TestServer, beside: str) -> None:
    """A query with introspection is priced as any other, and is one statement with the same answer."""
    answer = await asked(server, f"{{ {beside} {DOUBLED[1:]}", Role.GUARDIAN, "P1")
    assert refusal(answer)[0] == "QUERY_TOO_EXPENSIVE"
    answer = await asked(
        server, f"{{ headRevision {beside} people(first: 0) {{ edges {{ cursor }} }} x: __typename }}"
    )
    assert list(answer["data"]) == [
        "headRevision",
        beside[: beside.find(":")] if beside[0] == "s" else "__schema",
        "people",
        "x",
    ]
    assert [error["path"] for error in answer["errors"]] == [["people"]]


@pytest.mark.parametrize(
    ("shown", "code"),
    [(DEEP_RUNS, "QUERY_TOO_EXPENSIVE"), ("exclusions(first: 0) { edges { cursor } }", "INVALID_ARGUMENT")],
)
async def test_a_mutation_is_refused_before_its_work_is_begun(
    server: TestServer, district: DistrictBuilder, shown: str, code: str
) -> None:
    """A payload that costs too much or cannot be answered refuses the mutation: no run is there afterwards."""
    await district.student(await district.school(), email="a@b.example")
    answer = await asked(server, SUBMIT % shown, variables={"input": ORDER})
    assert (refusal(answer)[0], answer["data"]) == (code, None)
    assert await district.conn.fetchval("select count(*) from batch_run") == 0


async def test_a_kept_plan_does_not_begin_what_cannot_be_answered(
    server: TestServer, district: DistrictBuilder
) -> None:
    """The same document with another page size is refused before its work, though its plan is kept."""
    await district.student(await district.school(), email="a@b.example")
    submit = (SUBMIT % "exclusions(first: $n) { edges { cursor } }").replace(
        "PreferencesInput!", "PreferencesInput!, $n: Int"
    )
    for first, runs in ((5, 1), (0, 1), (6, 2)):
        answer = await asked(server, submit, variables={"input": ORDER, "n": first})
        assert ("errors" in answer) == (first == 0)
        assert await district.conn.fetchval("select count(*) from batch_run") == runs


async def test_payloads_are_planned_once(server: TestServer, counting: CountingDatabase) -> None:
    """Two fields of one mutation, and the same mutation again, show each their own object."""
    query = """mutation ($a: SaveFilterInput!, $b: SaveFilterInput!) {
      a: saveFilter(input: $a) { filter { name } } b: saveFilter(input: $b) { filter { n: name } } }"""
    for n in range(2):
        a, b = (
            {"name": f"{name}{n}", "kind": "STUDENT", "criteria": {"field": "grade", "is": "09"}}
            for name in "ab"
        )
        answer = await asked(server, query, variables={"a": a, "b": b})
        assert answer["data"] == {"a": {"filter": {"name": f"a{n}"}}, "b": {"filter": {"n": f"b{n}"}}}


async def test_an_event_costs_what_a_query_costs(server: TestServer) -> None:
    """A subscription whose events would cost too much is refused when it begins."""
    query = f'subscription {{ batchRun(id: "run_1") {{ {DEEP_RUNS} }} }}'
    headers = {"Authorization": f"Bearer {server.token()}", "Accept": "text/event-stream"}
    async with server.session.post(
        f"{server.url}/graphql", json={"query": query}, headers=headers
    ) as response:
        assert "QUERY_TOO_EXPENSIVE" in await response.text()


# ── lists and answers ───────────────────────────────────────────────────────────────────────────


def test_every_list_has_a_bound() -> None:
    """Every list without `first` declares how many rows it may have, for portal roles and for all others."""
    schema = build_schema()
    lists = 0
    for (type_, name), link in schema.links.items():
        parent = schema.graphql.type_map[type_]
        assert isinstance(parent, GraphQLObjectType)
        if isinstance(link, RowsLink) and is_list_type(get_nullable_type(parent.fields[name].type)):
            assert link.max_rows_for(Role.ADMIN) >= link.max_rows_for(Role.GUARDIAN) > 0, f"{type_}.{name}"
            lists += 1
    assert lists > 10


async def test_a_list_that_is_too_long_is_refused_not_cut(
    server: TestServer, district: DistrictBuilder
) -> None:
    """Up to its bound a list is whole; with one row more it is refused in words, and its neighbours are answered."""
    school, guardian = await district.school(), await district.person("Ada Lane", source_id="G")
    bound = build_schema().links["Person", "students"].max_rows_for(Role.GUARDIAN)  # type: ignore[union-attr]
    query = "{ headRevision viewer { role person { students { student { id } } } } }"
    for n in range(bound + 1):
        if n == bound:
            whole = await asked(server, query, Role.GUARDIAN, "G")
            assert len(whole["data"]["viewer"]["person"]["students"]) == bound
        await district.relate(await district.student(school, f"Sam Lane{n}"), guardian)
    answer = await asked(server, query, Role.GUARDIAN, "G")
    assert answer["data"] == {"headRevision": "0", "viewer": {"role": "GUARDIAN", "person": None}}
    [error] = answer["errors"]
    assert error["extensions"]["code"] == "ANSWER_TOO_LARGE"
    assert error["path"] == ["viewer", "person", "students"]
    assert f"more than {bound} rows" in error["message"]


async def test_a_list_that_is_too_long_says_whose_it_is(
    server: TestServer, district: DistrictBuilder, counting: CountingDatabase
) -> None:
    """On a page the words name the row by its id; a query with several such lists is run twice at most."""
    school, contact = await district.school(), await district.person("Case Worker")
    bound = build_schema().links["Person", "students"].max_rows_for(Role.VENDOR)  # type: ignore[union-attr]
    for n in range(bound + 1):
        await district.relate(await district.student(school, f"S{n} Lane"), contact)
    page = "people(first: 200) { edges { node { id students { guardian } } } }"
    answer = await asked(server, f"{{ headRevision {page} }}", Role.VENDOR)
    assert answer["data"]["people"] is None
    assert answer["data"]["headRevision"]
    assert f"`students` of person_{contact} has more than {bound} rows" in refusal(answer)[1]
    person = f'person(id: "person_{contact}") {{ students {{ guardian }} }}'
    counting.statements.clear()
    answer = await asked(server, f"{{ a: {person} b: {person} c: {person} }}", Role.VENDOR)
    assert refusal(answer)[0] == "ANSWER_TOO_LARGE"
    assert sum("request_tag" in text for text in counting.statements) == 2


async def test_many_schools_are_listed_or_leave_their_neighbours(
    server: TestServer, district: DistrictBuilder
) -> None:
    """More than a thousand schools are listed; more than the bound are refused, and what is beside them is answered."""
    await district.school()
    await district.conn.execute(
        "insert into school (district_id, source_id, name)"
        " select district_id, 's' || n, 'S' || n from school, generate_series(1, 2500) as n"
    )
    query = "{ headRevision schools { name } }"
    assert len((await asked(server, query))["data"]["schools"]) == 2_501
    answer = await asked(server, query, Role.GUARDIAN, "P1")
    assert answer["data"] == {"headRevision": "0", "schools": None}
    assert refusal(answer)[0] == "ANSWER_TOO_LARGE"


async def test_an_answer_that_is_too_large_is_not_sent(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """An answer above the setting is refused in words that say what to do; one below it is sent."""
    for n in range(60):
        await district.person(f"Ada {'Lane' * 10}{n}")
    query = "query ($n: Int!) { people(first: $n) { edges { node { firstName lastName } } } }"
    async with serving(db, host, "maple", max_answer_bytes=2_000) as server:
        assert len((await asked(server, query, variables={"n": 5}))["data"]["people"]["edges"]) == 5
        answer = await asked(server, query, variables={"n": 60})
        code, words = refusal(answer)
        assert (code, answer["data"]) == ("ANSWER_TOO_LARGE", None)
        assert "smaller `first`" in words


async def test_a_portal_read_has_seconds(db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
    """A read of a portal role that waits longer than the setting is cancelled, and told as such."""
    async with serving(db, host, "maple", portal_statement_timeout=0.3) as server, db.transaction() as conn:
        await asked(server, "{ viewer { role } }", Role.GUARDIAN, "G")
        await conn.execute("lock table person in access exclusive mode")
        answer = await asyncio.wait_for(asked(server, "{ viewer { role } }", Role.GUARDIAN, "G"), 20)
    assert (refusal(answer)[0], answer["data"]) == ("TIMEOUT", None)


# ── whose answer it is ──────────────────────────────────────────────────────────────────────────


class _Mixing:
    """A database that answers a read with the row of the read before, once it is told to."""

    def __init__(self, inner: Pool) -> None:
        self.inner, self.mixing, self.last = inner, False, None

    @asynccontextmanager
    async def acquire(
        self, district_id: int | None = None, *, read: str | None = None
    ) -> AsyncIterator[Connection]:
        async with self.inner.acquire(district_id, read=read) as conn:
            yield _MixingConnection(self, conn)  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _MixingConnection:
    def __init__(self, database: _Mixing, conn: Connection) -> None:
        self.database, self.conn = database, conn

    async def fetchrow(self, query: str, *args: object, **more: Any) -> Any:
        row, last = await self.conn.fetchrow(query, *args, **more), self.database.last
        if "request_tag" in query:
            self.database.last = row
        return last if self.database.mixing and "request_tag" in query else row

    def __getattr__(self, name: str) -> Any:
        return getattr(self.conn, name)


async def test_another_requests_answer_is_never_sent(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """An answer made for another role, or for the very same query of somebody else, is an error and is not shown."""
    await district.person("Ada Lane", source_id="G")
    mixing = _Mixing(db)
    query = "{ viewer { role person { id } } }"
    async with serving(mixing, host, "maple") as server:  # type: ignore[arg-type]
        assert (await asked(server, query))["data"]["viewer"]["role"] == "ADMIN"
        mixing.mixing = True
        for role, person in ((Role.GUARDIAN, "G"), (Role.GUARDIAN, "H"), (Role.GUARDIAN, "H")):
            answer = await asked(server, query, role, person)
            assert (refusal(answer)[0], answer["data"]) == ("UNAVAILABLE", None)
        mixing.mixing = False
        assert (await asked(server, query, Role.GUARDIAN, "G"))["data"]["viewer"]["person"]
