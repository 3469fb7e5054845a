"""Calls the resolvers of mutations with the arguments that graphql-core has coerced.

Strawberry asks what the type of each value is at every request. Here that is asked once, when the schema is built.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLResolveInfo,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
)
from strawberry import Info

STRAWBERRY = "strawberry-definition"
"""The key of Strawberry's definition in the extensions of graphql-core's types, fields and arguments."""

_Converter: TypeAlias = Callable[[Any], Any]
_Named: TypeAlias = dict[str, tuple[str, _Converter]]
"""By a name in GraphQL: the name in Python, and what converts a value that is not null."""


def mutation_resolver(field: GraphQLField) -> Callable[..., Awaitable[object]]:
    """Return the resolver of a mutation's field: it calls the method that Strawberry's definition holds."""
    definition = field.extensions[STRAWBERRY]
    method = definition.base_resolver.wrapped_func
    named: _Named = {
        name: (argument.extensions[STRAWBERRY].python_name, _converter(argument.type))
        for name, argument in field.args.items()
    }

    async def resolve(source: object, info: GraphQLResolveInfo[Any], **given: object) -> object:
        strawberry_info = Info(_raw_info=info, _field=definition)
        return await method(source, info=strawberry_info, **_converted(named, given))

    return resolve


def _converted(named: _Named, given: Mapping[str, object]) -> dict[str, object]:
    converted = {}
    for name, value in given.items():
        python_name, convert = named[name]
        converted[python_name] = None if value is None else convert(value)
    return converted


def _converter(type_: GraphQLInputType) -> _Converter:
    """Return what makes of a coerced value that is not null what Python code takes."""
    if is_non_null_type(type_):
        return _converter(type_.of_type)
    if is_list_type(type_):
        convert = _converter(type_.of_type)
        return lambda values: [None if value is None else convert(value) for value in values]
    if is_input_object_type(type_):
        return _object_converter(type_)
    return lambda value: value


def _object_converter(type_: GraphQLInputObjectType) -> _Converter:
    """Return what makes an instance of the class of an input type. A field that is not given has its default."""
    definition = type_.extensions[STRAWBERRY]
    named: _Named = {
        name: (field.extensions[STRAWBERRY].python_name, _converter(field.type))
        for name, field in type_.fields.items()
    }
    return lambda value: definition.origin(**_converted(named, value))
