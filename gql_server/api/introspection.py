"""Introspection: resolves what a query asks of the schema itself.

The types of a schema refer to each other, so a small document can ask for millions of values. The values are counted
before graphql-core collects them, and the count stops at the limit. No database is needed, so the count is exact.
"""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import orjson
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionSetNode,
    execute,
    get_named_type,
    get_nullable_type,
    is_list_type,
    is_object_type,
)
from graphql.execution.values import VariableValues, get_argument_values

from gql_server.api.graphql_request import PreparedRequest
from gql_server.domain.bounded_cache import ByteBoundedCache
from gql_server.errors import TooExpensive
from gql_server.reads.selections import INTROSPECTION, collect_fields, sub_selections

MAX_VALUES = 20_000
"""Values of the schema that one query may ask for. The usual introspection query of tools asks for about a quarter."""
_CACHE_BYTES = 8 * 1024 * 1024


class Introspector:
    """Resolves the introspection fields of queries, and caches the results."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        # One thread: however many requests ask for the schema, one result is computed at a time.
        self._thread = ThreadPoolExecutor(1, "introspection")
        self._cache: ByteBoundedCache[object, dict[str, bytes]] = ByteBoundedCache(_CACHE_BYTES)

    async def resolve(self, prepared: PreparedRequest) -> dict[str, bytes]:
        """Return the JSON of a query's introspection fields, by response key. Raises TooExpensive, GraphQLError."""
        key = (prepared.document.key, prepared.operation.number, orjson.dumps(prepared.request.variables))
        resolved = self._cache.get(key)
        if resolved is None:
            loop = asyncio.get_running_loop()
            resolved = await loop.run_in_executor(self._thread, self._compute, prepared)
            size = 1_000 + 4 * len(key[0]) + len(key[2]) + sum(map(len, resolved.values()))
            self._cache.put(key, resolved, size)
        return resolved

    def root_fields(self, prepared: PreparedRequest) -> dict[str, list[FieldNode]]:
        """Return all root fields of a query by response key, in the order of the response."""
        query_type, node = self._schema.query_type, prepared.operation.node
        assert query_type is not None
        return collect_fields(
            query_type, [node.selection_set], prepared.document.fragments, prepared.variables
        )

    def _compute(self, prepared: PreparedRequest) -> dict[str, bytes]:
        """Return the introspection fields as graphql-core resolves them. Raises TooExpensive, GraphQLError."""
        document, node = prepared.document, prepared.operation.node
        validate_introspection(self._schema, node.selection_set, document.fragments, prepared.variables)
        fields = [
            each
            for nodes in self.root_fields(prepared).values()
            if nodes[0].name.value in INTROSPECTION
            for each in nodes
        ]
        if not fields:
            return {}
        result = execute(
            self._schema,
            _document_of(node, fields, document.fragments.values()),
            variable_values=prepared.request.variables,
            hide_suggestions=True,
        )
        assert isinstance(result, ExecutionResult)
        if result.errors:
            raise result.errors[0]
        return {key: orjson.dumps(value) for key, value in (result.data or {}).items()}


def _document_of(
    operation: OperationDefinitionNode, fields: list[FieldNode], fragments: Iterable[FragmentDefinitionNode]
) -> DocumentNode:
    """Return a document whose operation selects only these fields."""
    reduced = OperationDefinitionNode(
        operation=operation.operation,
        variable_definitions=operation.variable_definitions,
        selection_set=SelectionSetNode(selections=tuple(fields)),
    )
    return DocumentNode(definitions=(reduced, *fragments))


def validate_introspection(
    schema: GraphQLSchema,
    selection_set: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: VariableValues,
) -> None:
    """Raise TooExpensive if a query asks for too many values of the schema.

    Raises GraphQLError for a directive whose `if` is null.
    """
    query_type, counter = schema.query_type, _ValueCounter(schema, fragments, variables)
    assert query_type is not None
    for nodes in collect_fields(query_type, [selection_set], fragments, variables).values():
        name = nodes[0].name.value
        if name in INTROSPECTION:
            value: Any = schema
            if name == "__type":
                definition = schema.get_field(query_type, "__type")
                assert definition is not None
                value = schema.type_map.get(get_argument_values(definition, nodes[0], variables)["name"])
            type_ = schema.type_map["__Schema" if name == "__schema" else "__Type"]
            assert isinstance(type_, GraphQLObjectType)
            if value is not None:
                counter.count(counter.select(type_, sub_selections(nodes)), value)


@dataclass(frozen=True, slots=True)
class _SelectedObject:
    """The selection of one object: the number of its fields, and those fields whose values are objects."""

    fields: int
    children: tuple["_ObjectField", ...]


@dataclass(frozen=True, slots=True)
class _ObjectField:
    """A field whose values are objects: how they are resolved, and what is selected of each."""

    resolve: Any
    args: Mapping[str, Any]
    is_list: bool
    selected: _SelectedObject


class _ValueCounter:
    """Counts the values that a query asks of the schema. Raises TooExpensive."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: VariableValues,
    ) -> None:
        self._info = SimpleNamespace(schema=schema)
        self._fragments, self._variables = fragments, variables
        self._left = MAX_VALUES

    def select(self, type_: GraphQLObjectType, selection_sets: Iterable[SelectionSetNode]) -> _SelectedObject:
        fields = collect_fields(type_, selection_sets, self._fragments, self._variables)
        children = []
        for nodes in fields.values():
            definition = type_.fields.get(nodes[0].name.value)
            child_type = get_named_type(definition.type) if definition is not None else None
            if definition is not None and is_object_type(child_type):
                args = get_argument_values(definition, nodes[0], self._variables)
                is_list = is_list_type(get_nullable_type(definition.type))
                selected = self.select(child_type, sub_selections(nodes))
                children.append(_ObjectField(definition.resolve, args, is_list, selected))
        return _SelectedObject(len(fields), tuple(children))

    def count(self, selected: _SelectedObject, value: object) -> None:
        self._left -= selected.fields
        if self._left < 0:
            raise TooExpensive(
                f"The query asks for more than {MAX_VALUES:,} values of the schema itself. Ask for fewer fields of "
                "types within types; the usual introspection query asks for all there is, and is allowed."
            )
        for child in selected.children:
            found = child.resolve(value, self._info, **child.args)
            for each in (found or ()) if child.is_list else (found,):
                if each is not None:
                    self.count(child.selected, each)
