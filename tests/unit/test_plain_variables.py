"""Plain variables are taken over as graphql-core would coerce them, or left to it."""

from typing import Any

import pytest
from graphql import OperationDefinitionNode, build_schema, parse
from graphql.execution.values import get_variable_values

from gql_server.reads.plain_variables import PlainVariables

_SCHEMA = build_schema("enum Color { RED } type Query { f(a: Color, b: ID): Int }")
_VALUES: list[Any] = [
    "person_1",
    "",
    1,
    0,
    -1,
    2**31 - 1,
    -(2**31),
    2**31,
    1.0,
    1.5,
    True,
    False,
    None,
    [],
    ["x"],
    {},
]


@pytest.mark.parametrize("type_", ["ID", "ID!", "String", "String!", "Int", "Int!", "Boolean", "Boolean!"])
@pytest.mark.parametrize("default", ["", " = null"])
def test_plain_values_are_those_of_graphql_core(type_: str, default: str) -> None:
    """Every value of every plain type, and a missing one, gives what graphql-core gives, or is left to it."""
    definitions = _definitions(f"($a: {type_}{default if '!' not in type_ else ''})")
    plain = PlainVariables.of(_SCHEMA, definitions)
    taken = 0
    for given in [{}, *({"a": value} for value in _VALUES), {"other": 1}]:
        values = plain.values(given)
        if values is not None:
            taken += 1
            assert _comparable(values) == _comparable(get_variable_values(_SCHEMA, definitions, given))
    assert taken


@pytest.mark.parametrize("definition", ["($a: [ID!])", "($a: Color)", "($a: Float)", "($a: ID, $b: [Int])"])
def test_other_types_are_left_to_graphql_core(definition: str) -> None:
    """An operation with a variable of any other type is coerced by graphql-core alone."""
    assert PlainVariables.of(_SCHEMA, _definitions(definition)).values({"a": "RED"}) is None


def test_a_default_is_left_to_graphql_core() -> None:
    """A missing variable with a default is not plain; a given one is."""
    plain = PlainVariables.of(_SCHEMA, _definitions("($a: Int = 3)"))
    assert plain.values({}) is None
    given = plain.values({"a": 4})
    assert given is not None
    assert given.coerced == {"a": 4}


def _comparable(values: Any) -> Any:
    """Return values without the nodes of their defaults, which graphql-core does not compare."""
    sources = {
        name: (source.value, source.signature.name, source.signature.type)
        for name, source in values.sources.items()
    }
    return repr(values.coerced), repr(sources)


def _definitions(text: str) -> Any:
    node = parse(f"query Q{text} {{ f }}").definitions[0]
    assert isinstance(node, OperationDefinitionNode)
    return node.variable_definitions
