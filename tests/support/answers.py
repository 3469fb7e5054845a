"""Two ways to answer one query: the compiled statement, and graphql-core over plain rows."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLOutputType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    parse,
)

from gql_server.api.document_limits import validation_rules
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
    client.limits = ReadLimits(max_price=10**9, max_characters=10**7)
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


Path: TypeAlias = tuple[str, ...]
"""Response keys, without positions in lists."""


@dataclass(frozen=True)
class Answer:
    """The data, and what was refused: the codes of each thing by its path."""

    data: Any
    refused: Mapping[Path, frozenset[str]] = field(default_factory=dict)


def _refused(errors: Iterable[GraphQLError]) -> dict[Path, frozenset[str]]:
    refused: dict[Path, frozenset[str]] = {}
    for error in errors:
        path = tuple(key for key in error.path or () if isinstance(key, str))
        refused[path] = refused.get(path, frozenset()) | _codes(error.original_error or error)
    return refused


def _codes(error: BaseException) -> frozenset[str]:
    if isinstance(error, Rejected):
        return frozenset(each.code for each in error.errors)
    if isinstance(error, GraphQLError):
        return frozenset(["GRAPHQL"])
    if not isinstance(error, GqlServerError):
        raise error
    return frozenset([error.code])


async def compiled(client: GraphClient, context: ReadContext, query: Query) -> Answer:
    """Answer by one statement, as the server answers queries."""
    answer = await client.answer(context, query.text, query.variables)
    data = json.loads(answer.json)["data"] if answer.json is not None else None
    return Answer(data, _refused(answer.errors))


def naive(asked: Asked, viewer: Viewer, host: PluginHost, query: Query) -> Answer:
    """Answer by graphql-core over plain rows."""
    eyes = Eyes(asked.tables, viewer, host)
    result = run_naively(NAIVE, parse(query.text), query.variables, eyes)
    return Answer(result.data, _refused(result.errors or ()))


def agree(one: Answer, all_: Answer, query: Query) -> bool:
    """Tell whether a compiled answer is graphql-core's.

    The compiled one refuses a field wherever it stands, also where there is no row to ask it of; and it makes null the
    nearest ancestor that can be outside of all lists, where graphql-core does so in each row.
    """
    if any(one.refused.get(path) != codes for path, codes in all_.refused.items()):
        return False
    types = _types_by_path(NAIVE, parse(query.text))
    expected = Answer(all_.data)
    for path in one.refused:
        if _answered(all_.data, path):
            return False
        expected = Answer(_without(expected.data, null_place(types, path)))
    return json.dumps(one.data) == json.dumps(expected.data)


def _types_by_path(schema: GraphQLSchema, document: DocumentNode) -> dict[Path, GraphQLOutputType]:
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    types: dict[Path, GraphQLOutputType] = {}

    def visit(type_: Any, selection_set: SelectionSetNode, path: Path) -> None:
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                key = node.alias.value if node.alias else node.name.value
                if node.name.value in type_.fields:
                    types[*path, key] = inner = type_.fields[node.name.value].type
                    if node.selection_set:
                        visit(get_named_type(inner), node.selection_set, (*path, key))
                continue
            assert isinstance(node, FragmentSpreadNode | InlineFragmentNode)
            inside = fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
            narrowed = schema.type_map[inside.type_condition.name.value] if inside.type_condition else type_
            visit(narrowed, inside.selection_set, path)

    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            visit(schema.query_type, definition.selection_set, ())
    return types


def null_place(types: Mapping[Path, GraphQLOutputType], path: Path) -> Path:
    """Return the path of what is null where a field is refused: () for the whole answer."""
    place: Path = ()
    for length in range(1, len(path) + 1):
        type_ = types[path[:length]]
        if not is_non_null_type(type_):
            place = path[:length]
        if is_list_type(get_nullable_type(type_)):
            break
    return place


def _answered(data: Any, path: Path) -> bool:
    """Tell whether anything stands at a path."""
    if isinstance(data, list):
        return any(_answered(each, path) for each in data)
    if not path or data is None:
        return data is not None
    return _answered(data.get(path[0]), path[1:])


def _without(data: Any, path: Path) -> Any:
    """Return data with null at a path that leads through no list."""
    if not path or data is None:
        return None
    return {**data, path[0]: _without(data[path[0]], path[1:])} if path[0] in data else data
