"""What PostgreSQL makes of compiled reads when it plans them once for all calls."""

import json
from collections.abc import AsyncIterator
from datetime import date
from itertools import product
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.domain.sql import numbered
from gql_server.domain.viewer import Role
from tests.golden.test_golden import HERE
from tests.sql.test_chunk_plans import nodes
from tests.support.builder import DistrictBuilder
from tests.support.graph import compile_document

pytestmark = pytest.mark.slow

MANY = 20_000
TABLES = (
    "person",
    "household",
    "household_member",
    "contact_point",
    "preference",
    "relationship",
    "enrollment",
)
PREFERENCES = "preferences { contactPoint method value on chosen }"
CURSOR = "WyJQIiwgIk4xMDAiLCAxMDBd"
DOCUMENTS = {
    "portal": (HERE / "portal.graphql").read_text(encoding="utf-8"),
    "node": f"query($id: ID!) {{ node(id: $id) {{ ... on Person {{ firstName {PREFERENCES} }} }} }}",
    "page": "query($n: Int!) { people(first: $n) {"
    f" edges {{ node {{ id {PREFERENCES} }} }} pageInfo {{ endCursor }} }} }}",
    "next page": "query($n: Int!, $after: String) {"
    " people(first: $n, after: $after) { edges { cursor node { id } } } }",
}


class Values(dict[str, Any]):
    """The values of the parameters of a compiled read, by their names without the prefix of the field."""

    def __missing__(self, name: str) -> Any:
        return self.get(name.rsplit("__", maxsplit=1)[-1])


@pytest.fixture
async def district_of_many(db: Pool, district: DistrictBuilder, statistics: str) -> AsyncIterator[Connection]:
    """A connection, in a transaction, to a district of many people with contact points and preferences.

    The statistics are none, those of a moment at which there were two people, or those of now.
    """
    async with db.acquire() as conn, conn.transaction():
        for number, people in enumerate((2, MANY)):
            start = number * 10
            for text in (
                "insert into person (district_id, person_id, source_id, first_name, last_name) overriding system value"
                " select $1, n, n::text, 'N' || n, 'P' from generate_series($2::integer + 1, $3::integer) n",
                "insert into contact_point (district_id, person_id, kind, value)"
                " select $1, n, 'EMAIL', n::text from generate_series($2::integer + 1, $3::integer) n",
                "insert into preference (district_id, person_id, contact_point, method, reasons_on)"
                " select $1, n, 'EMAIL', 'EMAIL', 1 from generate_series($2::integer + 1, $3::integer) n",
                "insert into household (district_id, household_id, name) overriding system value"
                " select $1, n, n::text from generate_series($2::integer + 1, $3::integer) n",
                "insert into household_member (district_id, household_id, person_id)"
                " select $1, n, n from generate_series($2::integer + 1, $3::integer) n",
                "insert into relationship (district_id, student_id, contact_id, kind)"
                " select $1, n, n - 1, 'Mother' from generate_series($2::integer + 2, $3::integer) n",
            ):
                await conn.execute(text, district.id, start, start + people)
            if statistics == ("old", "new")[number]:
                for table in TABLES:
                    await conn.execute(f"analyze {table}")
        yield conn


@pytest.mark.parametrize("statistics", ["none", "old", "new"])
async def test_a_plan_for_all_calls_reads_by_indexes(district_of_many: Connection) -> None:
    """Whatever the statistics say and whoever asks, a plan that is made once looks up what a page or a person needs,
    and reads no table of people as a whole."""
    await district_of_many.execute("set local plan_cache_mode = force_generic_plan")
    for role, (name, document) in product(Role, DOCUMENTS.items()):
        found = list(nodes(await plan_of(district_of_many, document, role)))
        scanned = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
        assert not scanned & {*TABLES}, (role, name)
        assert max(node["Actual Rows"] * node["Actual Loops"] for node in found) <= 1_000, (role, name)


async def plan_of(conn: Connection, document: str, role: Role) -> dict[str, Any]:
    """Return the plan of a document for a role, with the rows that its nodes gave."""
    compiled = compile_document(document, role, {"id": "person_30", "n": 100, "after": CURSOR})
    text, names = numbered(compiled.text)
    values = Values(
        district_id=1, today=date(2026, 11, 24), viewer_source_id="30", answer_bytes=1 << 24, request=1,
        id=30, person_id=30, active_only=True, first=100, after_0="P", after_1="N100", after_2=100,
    )  # fmt: skip
    listed = ", ".join("null" if values[name] is None else f"'{values[name]}'" for name in names)
    await conn.execute(f"prepare compiled as {text}")
    explained = await conn.fetchval(f"explain (analyze, timing off, format json) execute compiled ({listed})")
    await conn.execute("deallocate compiled")
    plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
    return plan


@pytest.mark.parametrize("statistics", ["none", "new"])
async def test_a_page_is_planned_once(district_of_many: Connection) -> None:
    """After its first calls, PostgreSQL plans a page for all calls, whatever their sizes: its limit is a number."""
    text, names = numbered(compile_document(DOCUMENTS["page"], Role.ADMIN, {"n": 1}).text)
    values = Values(district_id=1, today=date(2026, 11, 24), answer_bytes=1 << 24, request=1)
    for size in (1, 100, 7, 50, 2, 100, 1, 20):
        row = await district_of_many.fetchrow(
            text, *({**values, "first": size}.get(n.split("__")[-1]) for n in names)
        )
        assert row is not None
        assert len(json.loads(row["answer"])["data"]["people"]["edges"]) == size
    plans = await district_of_many.fetchval(
        "select generic_plans from pg_prepared_statements where statement = $1", text
    )
    assert plans == 3
