"""Coerces the variables of a request. Nearly all are valid: these are coerced by functions that are made once for each
input type of the schema, in a third of graphql-core's time. Whatever else is sent goes to graphql-core, which says what
is wrong with it.
"""

from collections.abc import Callable, Collection
from functools import cached_property
from typing import Any, TypeAlias

from graphql import (
    GraphQLError,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLLeafType,
    GraphQLSchema,
    Undefined,
    VariableDefinitionNode,
    assert_leaf_type,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
    is_required_input_field,
)
from graphql.execution.get_variable_signature import get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource, get_variable_values
from graphql.utilities.coerce_input_value import coerce_default_value

_MAX_ERRORS = 20
_KEPT = "coercer"
"""The key of an input type's coercer in its extensions."""
_Coercer: TypeAlias = Callable[[Any], Any]
"""Returns a coerced value, or Undefined where graphql-core shall look at the value."""


def coerce_variables(
    schema: GraphQLSchema, definitions: Collection[VariableDefinitionNode], given: dict[str, Any]
) -> VariableValues | list[GraphQLError]:
    """Return the values of an operation's variables, or what is wrong with them, as `get_variable_values` does."""
    return _valid_values(schema, definitions, given) or get_variable_values(
        schema, definitions, given, max_errors=_MAX_ERRORS, hide_suggestions=True
    )


def _valid_values(
    schema: GraphQLSchema, definitions: Collection[VariableDefinitionNode], given: dict[str, Any]
) -> VariableValues | None:
    """Return the values, or None where graphql-core shall look at them."""
    values = VariableValues({}, {})
    for definition in definitions:
        signature = get_variable_signature(schema, definition)
        if isinstance(signature, GraphQLError):
            return None
        name = signature.name
        if name not in given:
            if definition.default_value or is_non_null_type(signature.type):
                return None
            values.sources[name] = VariableValueSource(signature)
            continue
        coerced = _coercer(signature.type)(given[name])
        if coerced is Undefined:
            return None
        values.sources[name] = VariableValueSource(signature, given[name])
        values.coerced[name] = coerced
    return values


def _coercer(type_: GraphQLInputType) -> _Coercer:
    """Return the coercer of a type. Null is Undefined where the type does not allow it."""
    if is_non_null_type(type_):
        inner = _of_values(type_.of_type)
        return lambda value: Undefined if value is None else inner(value)
    of_values = _of_values(type_)
    return lambda value: None if value is None else of_values(value)


def _of_values(type_: GraphQLInputType) -> _Coercer:
    """Return the coercer of values that are not null."""
    if is_list_type(type_):
        item = _coercer(type_.of_type)
        return lambda value: _coerced_list(item, value)
    if is_input_object_type(type_):
        if _KEPT not in type_.extensions:
            type_.extensions[_KEPT] = _ObjectCoercer(type_)
        coercer: _Coercer = type_.extensions[_KEPT]
        return coercer
    leaf = assert_leaf_type(type_)
    return lambda value: _coerced_leaf(leaf, value)


def _coerced_list(item: _Coercer, value: Any) -> Any:
    if not isinstance(value, list):
        return Undefined
    coerced = [item(each) for each in value]
    return Undefined if any(each is Undefined for each in coerced) else coerced


def _coerced_leaf(leaf: GraphQLLeafType, value: Any) -> Any:
    try:
        return leaf.coerce_input_value(value)
    except Exception:  # graphql-core says which
        return Undefined


class _ObjectCoercer:
    """The coercer of an input type. It looks at the fields when it is first used, because types may hold each other."""

    def __init__(self, type_: GraphQLInputObjectType) -> None:
        self._type = type_

    @cached_property
    def _fields(self) -> list[tuple[str, str, GraphQLInputField, _Coercer]]:
        fields = self._type.fields.items()
        return [(name, field.out_name or name, field, _coercer(field.type)) for name, field in fields]

    def __call__(self, value: Any) -> Any:
        if (
            not isinstance(value, dict)
            or self._type.is_one_of
            or not value.keys() <= self._type.fields.keys()
        ):
            return Undefined
        given: dict[str, Any] = {}
        for name, out_name, field, coercer in self._fields:
            if name in value:
                coerced = coercer(value[name])
                if coerced is Undefined:
                    return Undefined
            elif is_required_input_field(field):
                return Undefined
            else:
                coerced = coerce_default_value(field)
                if coerced is Undefined:
                    continue
            given[out_name] = coerced
        return self._type.out_type(given)
