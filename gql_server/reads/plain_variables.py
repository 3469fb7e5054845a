"""The variables of an operation whose values need no conversion: texts, ids, whole numbers and booleans.

graphql-core looks up the types of the variables, and walks through their values, at each request. Nearly all requests
have only variables whose values are taken over as they are, and whether one can be is seen from its Python type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLBoolean,
    GraphQLID,
    GraphQLInt,
    GraphQLSchema,
    GraphQLString,
    VariableDefinitionNode,
    get_nullable_type,
    is_non_null_type,
)
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource

_PYTHON_TYPES = {GraphQLBoolean: bool, GraphQLID: str, GraphQLInt: int, GraphQLString: str}
_MAX_INT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _PlainVariable:
    name: str
    signature: GraphQLVariableSignature
    python_type: type
    may_be_missing: bool


@dataclass(frozen=True, slots=True)
class PlainVariables:
    """The variables of one operation; None where the type of any of them is not one of the plain ones."""

    variables: Sequence[_PlainVariable] | None

    @classmethod
    def of(cls, schema: GraphQLSchema, definitions: Sequence[VariableDefinitionNode]) -> "PlainVariables":
        """Return the variables that an operation defines."""
        found = [_plain_variable(schema, definition) for definition in definitions]
        return cls(None if None in found else tuple(filter(None, found)))

    def values(self, given: Mapping[str, Any]) -> VariableValues | None:
        """Return what `get_variable_values` of graphql-core returns; None if that has to convert or refuse a value."""
        if self.variables is None:
            return None
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, Any] = {}
        for variable in self.variables:
            name = variable.name
            if name not in given:
                if not variable.may_be_missing:
                    return None
                sources[name] = VariableValueSource(variable.signature)
                continue
            value = given[name]
            if type(value) is not variable.python_type or (
                type(value) is int and not -_MAX_INT <= value <= _MAX_INT
            ):
                return None
            sources[name] = VariableValueSource(variable.signature, value)
            coerced[name] = value
        return VariableValues(sources, coerced)


def _plain_variable(schema: GraphQLSchema, definition: VariableDefinitionNode) -> _PlainVariable | None:
    signature = get_variable_signature(schema, definition)
    if not isinstance(signature, GraphQLVariableSignature):
        return None
    python_type = next(
        (each for type_, each in _PYTHON_TYPES.items() if type_ is get_nullable_type(signature.type)), None
    )
    if python_type is None:
        return None
    may_be_missing = signature.default is None and not is_non_null_type(signature.type)
    return _PlainVariable(signature.name, signature, python_type, may_be_missing)
