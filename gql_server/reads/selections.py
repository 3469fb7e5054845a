"""Reads selection sets: which fields an object answers, merged over fragments and directives."""

from collections.abc import Iterable, Mapping
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLIncludeDirective,
    GraphQLObjectType,
    GraphQLSkipDirective,
    InlineFragmentNode,
    SelectionSetNode,
)
from graphql.execution.values import VariableValues, get_directive_values

Fields = dict[str, list[FieldNode]]


def collect_fields(
    type_: GraphQLObjectType,
    selection_sets: Iterable[SelectionSetNode],
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: VariableValues,
) -> Fields:
    """Return the field nodes of an object by response key, in the order of the specification."""
    fields: Fields = {}
    seen: set[str] = set()

    def visit(selection_set: SelectionSetNode) -> None:
        for node in selection_set.selections:
            if not _included(node, variables):
                continue
            if isinstance(node, FieldNode):
                key = node.alias.value if node.alias else node.name.value
                fields.setdefault(key, []).append(node)
            elif isinstance(node, InlineFragmentNode):
                if node.type_condition is None or _applies(type_, node.type_condition.name.value):
                    visit(node.selection_set)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                seen.add(node.name.value)
                fragment = fragments[node.name.value]
                if _applies(type_, fragment.type_condition.name.value):
                    visit(fragment.selection_set)

    for selection_set in selection_sets:
        visit(selection_set)
    return fields


def sub_selections(nodes: Iterable[FieldNode]) -> list[SelectionSetNode]:
    """Return the selection sets of all nodes of one response key; graphql merges them."""
    return [node.selection_set for node in nodes if node.selection_set]


def _applies(type_: GraphQLObjectType, condition: str) -> bool:
    return condition == type_.name or any(interface.name == condition for interface in type_.interfaces)


def _included(node: Any, variables: VariableValues) -> bool:
    if not node.directives:
        return True
    skip = get_directive_values(GraphQLSkipDirective, node, variables)
    include = get_directive_values(GraphQLIncludeDirective, node, variables)
    return not (skip and skip["if"]) and not (include and not include["if"])
