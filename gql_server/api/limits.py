"""How large a document may be: measured once, when it is admitted, before any rule looks at it.

Fragments that spread each other make a small document a huge one. So each fragment is measured once, and what it
holds is counted wherever it is spread; the specification's rules, some of which follow every spread, see only what
is small when it is spread out.
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
"""Selections of a document at most by default, what a fragment holds counted each time."""

# The rule's own bound of its work is for documents many times as large as ours. It can be set for the module alone.
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = 5_000


@dataclass(frozen=True, slots=True)
class Size:
    """The size of an operation or fragment, what it spreads counted each time.

    depth: fields with fields of their own, one in another. What introspection asks for has no depth here.
    """

    selections: int = 0
    aliases: int = 0
    depth: int = 0


@dataclass(slots=True)
class _Part:
    """An operation or fragment alone: its size without what it spreads, and what it spreads at which depth."""

    own: Size
    spreads: list[tuple[str, int | None]] = field(default_factory=list)


def validation_rules(
    max_depth: int, max_aliases: int, max_selections: int = MAX_SELECTIONS
) -> list[type[Any]]:
    """Return our bounds and the specification's rules. Made once: rules made for each request would defeat every cache.

    Our bounds come first, and raise GraphQLError out of the validation, so that nothing large is validated at all.
    """

    class Bounds(ValidationRule):
        def __init__(self, context: ValidationContext) -> None:
            super().__init__(context)
            check_bounds(context.document, max_depth, max_aliases, max_selections)

    return [Bounds, *specified_rules]


def check_bounds(document: DocumentNode, max_depth: int, max_aliases: int, max_selections: int) -> None:
    """Raise GraphQLError where a document is larger than it may be. Linear in the document, whatever it spreads."""
    operations, fragments = _sizes(document)
    for node, size in operations:
        if size.depth > max_depth:
            words = f"The query is {size.depth} fields deep; at most {max_depth} are allowed. Ask for less at once."
            raise GraphQLError(words, node)
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
    """Return a count in digits; one that doubled fragments made may have thousands of them."""
    return str(count) if count < 10**9 else "more than 1000000000"


def _sizes(
    document: DocumentNode,
) -> tuple[list[tuple[OperationDefinitionNode, Size]], Iterable[Size]]:
    """Return the operations with their sizes, and the sizes of all fragments: rules look at those not spread, too."""
    parts: dict[str, _Part] = {}
    operations: list[tuple[OperationDefinitionNode, _Part]] = []
    for definition in document.definitions:
        if isinstance(definition, FragmentDefinitionNode):
            parts[definition.name.value] = _measure(definition.selection_set)
        elif isinstance(definition, OperationDefinitionNode):
            operations.append((definition, _measure(definition.selection_set)))
    sizes: dict[str, Size] = {}
    for name in parts:
        _add_sizes(name, parts, sizes)
    return [(node, _spread_out(part, sizes)) for node, part in operations], sizes.values()


def _measure(selection_set: SelectionSetNode) -> _Part:
    """Return the size of what is written in one place, and the fragments that it spreads."""
    selections = aliases = depth = 0
    spreads: list[tuple[str, int | None]] = []
    # With the depth of what is in a set; None below introspection.
    waiting: list[tuple[SelectionSetNode, int | None]] = [(selection_set, 0)]
    while waiting:
        inside, at = waiting.pop()
        for node in inside.selections:
            selections += 1
            if isinstance(node, FragmentSpreadNode):
                spreads.append((node.name.value, at))
                continue
            below = at
            if isinstance(node, FieldNode):
                aliases += node.alias is not None
                if node.name.value.startswith("__"):
                    below = None
                elif node.selection_set is not None and at is not None:
                    below = at + 1
                    depth = max(depth, below)
            inner = getattr(node, "selection_set", None)
            if inner is not None:
                waiting.append((inner, below))
    return _Part(Size(selections, aliases, depth), spreads)


def _add_sizes(name: str, parts: Mapping[str, _Part], sizes: dict[str, Size]) -> None:
    """Add the size of a fragment, after those that it spreads. One that is within itself adds nothing there."""
    path = [(name, iter(parts[name].spreads))]
    on_path = {name}
    while path:
        current, spreads = path[-1]
        for spread, _ in spreads:
            if spread in parts and spread not in sizes and spread not in on_path:
                path.append((spread, iter(parts[spread].spreads)))
                on_path.add(spread)
                break
        else:
            path.pop()
            on_path.discard(current)
            sizes[current] = _spread_out(parts[current], sizes)


def _spread_out(part: _Part, sizes: Mapping[str, Size]) -> Size:
    """Return the size of a part with that of what it spreads. Unknown fragments are for the specification's rules."""
    selections, aliases, depth = part.own.selections, part.own.aliases, part.own.depth
    for name, at in part.spreads:
        inner = sizes.get(name, Size())
        selections += inner.selections
        aliases += inner.aliases
        if at is not None:
            depth = max(depth, at + inner.depth)
    return Size(selections, aliases, depth)
