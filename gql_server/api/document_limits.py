"""Limits the size of documents, before any validation rule looks at them.

Fragments that spread each other can make a small document huge. So each fragment is measured once, and its size is
added wherever it is spread. Only documents that are small in that sense reach the rules of the GraphQL specification,
some of which follow every spread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
    specified_rules,
)
from graphql.validation.rules import overlapping_fields_can_be_merged

MAX_SELECTIONS = 10_000
"""The default maximum of selections in a document. Those of a fragment count wherever it is spread."""

# graphql-core's own limit allows documents many times as large as these. It can be set for the whole module only.
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = 5_000


@dataclass(frozen=True, slots=True)
class DocumentSize:
    """The size of an operation or fragment, including the fragments that it spreads.

    depth: levels of nested fields that have a selection set. Introspection has no depth.
    """

    selections: int = 0
    aliases: int = 0
    depth: int = 0


@dataclass(slots=True)
class _Measured:
    """An operation or fragment by itself.

    own: its size without the fragments that it spreads.
    spreads: the names of those fragments, each with the depth at which it is spread; None within introspection.
    """

    own: DocumentSize
    spreads: list[tuple[str, int | None]] = field(default_factory=list)


def validation_rules(
    max_depth: int, max_aliases: int, max_selections: int = MAX_SELECTIONS
) -> list[type[Any]]:
    """Return the validation rules: the size limits, then the rules of the GraphQL specification.

    Call it once: documents are cached by their rules. The size limits raise GraphQLError, which ends the validation
    before any other rule runs.
    """

    class SizeLimits(ValidationRule):
        def __init__(self, context: ValidationContext) -> None:
            super().__init__(context)
            validate_size(context.document, max_depth, max_aliases, max_selections)

    return [SizeLimits, *specified_rules]


def validate_size(document: DocumentNode, max_depth: int, max_aliases: int, max_selections: int) -> None:
    """Raise GraphQLError if a document is too large. Takes time in proportion to the document's length."""
    operations, fragments = _sizes(document)
    for node, size in operations:
        if size.depth > max_depth:
            message = f"The query is {size.depth} fields deep; at most {max_depth} are allowed. Ask for less at once."
            raise GraphQLError(message, node)
    selections = max(
        sum(size.selections for _, size in operations), *(size.selections for size in fragments), 0
    )
    if selections > max_selections:
        raise GraphQLError(
            f"The document selects {_shown(selections)} fields and fragments, what a fragment holds counted wherever "
            f"it is spread; at most {max_selections} are allowed. Ask for less at once."
        )
    aliases = sum(size.aliases for _, size in operations)
    if aliases > max_aliases:
        raise GraphQLError(
            f"The document has {_shown(aliases)} aliases, those of a fragment counted wherever it is spread; at most "
            f"{max_aliases} are allowed. Send more documents with fewer aliases."
        )


def _shown(count: int) -> str:
    """Return a count as text. Fragments that double each other can give a count with thousands of digits."""
    return str(count) if count < 10**9 else "more than 1000000000"


def _sizes(
    document: DocumentNode,
) -> tuple[list[tuple[OperationDefinitionNode, DocumentSize]], Iterable[DocumentSize]]:
    """Return the operations with their sizes, and the sizes of all fragments.

    Fragments that are never spread are included, because validation rules visit them too.
    """
    fragments: dict[str, _Measured] = {}
    operations: list[tuple[OperationDefinitionNode, _Measured]] = []
    for definition in document.definitions:
        if isinstance(definition, FragmentDefinitionNode):
            fragments[definition.name.value] = _measure(definition.selection_set)
        elif isinstance(definition, OperationDefinitionNode):
            operations.append((definition, _measure(definition.selection_set)))
    sizes: dict[str, DocumentSize] = {}
    for name in fragments:
        _add_sizes(name, fragments, sizes)
    return [(node, _size_with_spreads(measured, sizes)) for node, measured in operations], sizes.values()


def _measure(selection_set: SelectionSetNode) -> _Measured:
    """Return the size of an operation or fragment by itself, and its spreads."""
    selections = aliases = depth = 0
    spreads: list[tuple[str, int | None]] = []
    # Selection sets to visit, with their depth; None within introspection.
    pending: list[tuple[SelectionSetNode, int | None]] = [(selection_set, 0)]
    while pending:
        current, current_depth = pending.pop()
        for node in current.selections:
            selections += 1
            if isinstance(node, FragmentSpreadNode):
                spreads.append((node.name.value, current_depth))
                continue
            inner_depth = current_depth
            if isinstance(node, FieldNode):
                aliases += node.alias is not None
                if node.name.value.startswith("__"):
                    inner_depth = None
                elif node.selection_set is not None and current_depth is not None:
                    inner_depth = current_depth + 1
                    depth = max(depth, inner_depth)
            inner = getattr(node, "selection_set", None)
            if inner is not None:
                pending.append((inner, inner_depth))
    return _Measured(DocumentSize(selections, aliases, depth), spreads)


def _add_sizes(name: str, fragments: Mapping[str, _Measured], sizes: dict[str, DocumentSize]) -> None:
    """Add the size of a fragment to `sizes`, after those of the fragments that it spreads.

    Where a fragment spreads itself, directly or through others, nothing is added: the document is invalid anyway. The
    loop replaces a recursion, because fragments may be nested deeper than Python's stack.
    """
    path = [(name, iter(fragments[name].spreads))]
    on_path = {name}
    while path:
        current, spreads = path[-1]
        for spread, _ in spreads:
            if spread in fragments and spread not in sizes and spread not in on_path:
                path.append((spread, iter(fragments[spread].spreads)))
                on_path.add(spread)
                break
        else:
            path.pop()
            on_path.discard(current)
            sizes[current] = _size_with_spreads(fragments[current], sizes)


def _size_with_spreads(measured: _Measured, sizes: Mapping[str, DocumentSize]) -> DocumentSize:
    """Return a size including spreads. Unknown fragments count nothing: the specification's rules report them."""
    selections, aliases, depth = measured.own.selections, measured.own.aliases, measured.own.depth
    for name, at_depth in measured.spreads:
        inner = sizes.get(name, DocumentSize())
        selections += inner.selections
        aliases += inner.aliases
        if at_depth is not None:
            depth = max(depth, at_depth + inner.depth)
    return DocumentSize(selections, aliases, depth)
