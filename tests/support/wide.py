"""Selections that ask for everything: every field of every object, down to a depth."""

from collections.abc import Iterator
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
)

_PLUMBING = ("Connection", "Edge", "PageInfo")
_ARGUMENTS = {"activeOnly": "false", "first": "100"}


def everything(schema: GraphQLSchema, type_: Any, depth: int) -> str:
    """Return a selection of all fields of a type, with those of the objects below it down to `depth` rows."""
    if isinstance(type_, GraphQLInterfaceType):
        parts = [
            f"... on {each.name} {_apart(schema, each, depth)}" for each in schema.get_possible_types(type_)
        ]
        return f"{{ __typename {' '.join(parts)} }}"
    return f"{{ __typename {' '.join(_fields(schema, type_, depth))} }}"


def called(schema: GraphQLSchema, name: str, field: GraphQLField, depth: int) -> str:
    """Return a field as everything below it is asked of it, inactive rows too."""
    arguments = [f"{key}: {value}" for key, value in _ARGUMENTS.items() if key in field.args]
    written = f"{name}({', '.join(arguments)})" if arguments else name
    target = get_named_type(field.type)
    return written if is_leaf_type(target) else f"{written} {everything(schema, target, depth)}"


def _fields(schema: GraphQLSchema, type_: GraphQLObjectType, depth: int) -> Iterator[str]:
    for name, field in type_.fields.items():
        target = get_named_type(field.type)
        inner = not is_leaf_type(target)
        left = depth - (inner and not target.name.endswith(_PLUMBING))
        if left >= 0:
            yield called(schema, name, field, left)


def _apart(schema: GraphQLSchema, type_: GraphQLObjectType, depth: int) -> str:
    """Return the selection with aliases, since types with the same field may say different things by it."""
    fields = (f"{type_.name}_{field.partition(' ')[0].partition('(')[0]}: {field}" for field in
              _fields(schema, type_, depth))  # fmt: skip
    return f"{{ {' '.join(fields)} }}"
