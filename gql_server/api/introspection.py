"""How much of the schema a query asks for: counted before graphql-core gathers it.

Types have fields, whose types have fields: a small document can ask for millions. What the schema answers is known
without a database, so it is counted exactly, and the count ends where it is too much.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from graphql import (
    FragmentDefinitionNode,
    GraphQLObjectType,
    GraphQLSchema,
    SelectionSetNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
    is_object_type,
)
from graphql.execution.values import VariableValues, get_argument_values

from gql_server.errors import TooExpensive
from gql_server.reads.selections import INTROSPECTION, collect_fields, sub_selections

MAX_FIELDS = 20_000
"""Values that one query may ask of the schema. What tools ask to know all of it is about a quarter of that."""


@dataclass(frozen=True, slots=True)
class _Below:
    """A field whose values are objects: how they are found, and what is asked of each."""

    resolve: Any
    args: Mapping[str, Any]
    many: bool
    asked: "_Asked"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of one object: how many fields, and those that have fields of their own."""

    fields: int
    below: tuple[_Below, ...]


class _Counter:
    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: VariableValues,
    ) -> None:
        self._info = SimpleNamespace(schema=schema)
        self._fragments, self._variables = fragments, variables
        self._left = MAX_FIELDS

    def asked(self, type_: GraphQLObjectType, selection_sets: Iterable[SelectionSetNode]) -> _Asked:
        fields = collect_fields(type_, selection_sets, self._fragments, self._variables)
        below = []
        for nodes in fields.values():
            definition = type_.fields.get(nodes[0].name.value)
            target = get_named_type(definition.type) if definition is not None else None
            if definition is not None and is_object_type(target):
                args = get_argument_values(definition, nodes[0], self._variables)
                many = is_list_type(get_nullable_type(definition.type))
                inner = self.asked(target, sub_selections(nodes))
                below.append(_Below(definition.resolve, args, many, inner))
        return _Asked(len(fields), tuple(below))

    def count(self, asked: _Asked, value: object) -> None:
        self._left -= asked.fields
        if self._left < 0:
            raise TooExpensive(
                f"The query asks for more than {MAX_FIELDS:,} values of the schema itself. Ask for fewer fields of "
                "types within types; the usual introspection query asks for all there is, and is allowed."
            )
        for each in asked.below:
            found = each.resolve(value, self._info, **each.args)
            for one in (found or ()) if each.many else (found,):
                if one is not None:
                    self.count(each.asked, one)


def check_introspection(
    schema: GraphQLSchema,
    selection_set: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: VariableValues,
) -> None:
    """Raise TooExpensive where a query asks for too much of the schema; GraphQLError for null in a directive."""
    query_type, counter = schema.query_type, _Counter(schema, fragments, variables)
    assert query_type is not None
    for nodes in collect_fields(query_type, [selection_set], fragments, variables).values():
        name = nodes[0].name.value
        if name in INTROSPECTION:
            about: Any = schema
            if name == "__type":
                definition = schema.get_field(query_type, "__type")
                assert definition is not None
                about = schema.type_map.get(get_argument_values(definition, nodes[0], variables)["name"])
            of = schema.type_map["__Schema" if name == "__schema" else "__Type"]
            assert isinstance(of, GraphQLObjectType)
            if about is not None:
                counter.count(counter.asked(of, sub_selections(nodes)), about)
