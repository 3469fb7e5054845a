"""Two ways to answer one query: the compiled statement, and graphql-core over plain rows."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphql import ExecutionResult, GraphQLError, parse

from gql_server.api.limits import validation_rules
from gql_server.api.schema import build_schema
from gql_server.db.pool import Pool
from gql_server.domain.viewer import District, Viewer
from gql_server.errors import GqlServerError, Rejected
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import DocumentCache
from gql_server.reads.links import ReadContext, ReadLimits
from tests.support import random_district as size
from tests.support.documents import Query
from tests.support.graph import GraphClient
from tests.support.naive_graph import naive_schema, run_naively
from tests.support.naive_rules import Eyes, Tables, load_tables

SEEDS = (1, 2, 3)
PRODUCT, NAIVE = build_schema(), naive_schema()
IDS = {
    prefix: [f"{prefix}_{n}" for n in range(1, most + 1)]
    for prefix, most in {
        "person": size.PEOPLE,
        "household": size.HOUSEHOLDS,
        "school": size.SCHOOLS,
        "run": size.RUNS,
        "filter": size.FILTERS,
        "optout": size.OPT_OUTS,
    }.items()
}
_CURSORS = """{
  people(first: 100) { edges { cursor node { history(first: 100) { edges { cursor } } } } }
  households(first: 100) { edges { cursor } }
  batchRuns(first: 100) { edges { cursor node { exclusions(first: 100) { edges { cursor } } } } }
}"""


@dataclass(frozen=True)
class Asked:
    """A district that questions are asked of: in the database, and as plain rows."""

    district: District
    tables: Tables
    cursors: Mapping[str, Sequence[str]]

    def real(self, query: Query) -> Query:
        """Return a query with cursors of this district where it only speaks of some."""
        text = _fill_cursors(query.text, self.cursors)
        return Query(text, json.loads(_fill_cursors(json.dumps(query.variables), self.cursors)))


def _fill_cursors(text: str, cursors: Mapping[str, Sequence[str]]) -> str:
    def cursor(found: re.Match[str]) -> str:
        of_type = cursors[found[1]]
        return of_type[int(found[2]) % len(of_type)]

    return re.sub(r"cursor:(\w+):(\d+)", cursor, text)


class World:
    """The districts, and who asks them."""

    def __init__(self, client: GraphClient, districts: Sequence[Asked]) -> None:
        self.client, self.districts = client, districts

    def __repr__(self) -> str:
        return "world"  # Hypothesis would print all of its rows


async def load_world(db: Pool, host: PluginHost) -> World:
    """Districts with the same ids in one database, and a client that admits documents of any size."""
    client = GraphClient(db, host, PRODUCT)
    client.limits = ReadLimits(price=10**9, characters=10**7)
    client.documents = DocumentCache(
        PRODUCT.graphql, validation_rules(99, 999, 99_999), max_tokens=99_999, max_characters=999_999
    )
    districts = []
    for seed in SEEDS:
        async with db.transaction() as conn:
            district = await size.load_random_district(conn, host, f"d{seed}", seed)
            tables = await load_tables(conn, district.district_id)
        districts.append(Asked(district, tables, {}))
    async with db.acquire() as conn:
        await conn.execute("analyze")
    return World(client, [replace(each, cursors=await _cursors(client, each.district)) for each in districts])


async def _cursors(client: GraphClient, district: District) -> dict[str, list[str]]:
    data = await client.query(client.context(district), _CURSORS)

    def of(rows: Any) -> list[str]:
        return [edge["cursor"] for edge in rows["edges"]]

    people, runs = data["people"]["edges"], data["batchRuns"]["edges"]
    return {
        "PersonConnection": of(data["people"]),
        "HouseholdConnection": of(data["households"]),
        "BatchRunConnection": of(data["batchRuns"]),
        "ChangeConnection": [cursor for edge in people for cursor in of(edge["node"]["history"])],
        "BatchExclusionConnection": [cursor for edge in runs for cursor in of(edge["node"]["exclusions"])],
    }


# ── two ways to answer ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Answer:
    """The data as JSON text, or the codes of each thing that was refused."""

    data: str | None
    refused: frozenset[tuple[str, ...]] = frozenset()


def _codes(error: BaseException | None) -> tuple[str, ...]:
    if isinstance(error, Rejected):
        return tuple(sorted(each.code for each in error.errors))
    return (error.code,) if isinstance(error, GqlServerError) else ("GRAPHQL",)


async def compiled(client: GraphClient, context: ReadContext, query: Query) -> Answer:
    """Answer by one statement, as the server answers queries."""
    try:
        return Answer(json.dumps(await client.query(context, query.text, query.variables)))
    except (GqlServerError, GraphQLError) as error:
        return Answer(None, frozenset([_codes(error)]))


def naive(asked: Asked, viewer: Viewer, host: PluginHost, query: Query) -> Answer:
    """Answer by graphql-core over plain rows."""
    eyes = Eyes(asked.tables, viewer, host)
    return _answer(run_naively(NAIVE, parse(query.text), query.variables, eyes))


def _answer(result: ExecutionResult) -> Answer:
    errors = [error.original_error or error for error in result.errors or ()]
    for error in errors:
        if not isinstance(error, GqlServerError | GraphQLError):
            raise error
    if errors:
        return Answer(None, frozenset(map(_codes, errors)))
    return Answer(json.dumps(result.data))


def agree(one: Answer, all_: Answer) -> bool:
    """A compiled read refuses the whole query, for the first of the things that are refused one by one elsewhere."""
    return one.data == all_.data and one.refused <= all_.refused and bool(one.refused) is bool(all_.refused)
