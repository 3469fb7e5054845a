"""Documents as values that can be changed a little at a time: for a search that climbs to the most costly one.

A shape is a list of fragments; each field that has fields of its own spreads a later one. So a fragment that two
fields spread is asked for twice, and a few of them double at every level.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from graphql import (
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
)

_CONNECTION = "Connection"


@dataclass(frozen=True, slots=True)
class Link:
    """A field with fields of its own: those of fragment `to`. arguments: as they stand in the document."""

    name: str
    arguments: str
    to: int


@dataclass(frozen=True, slots=True)
class Fragment:
    """What is asked of one type."""

    on: str
    leaves: tuple[str, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A document: fragment 0 is the operation."""

    fragments: tuple[Fragment, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a role may write: the arguments of fields, by `Type.field` or by name, as they stand in a document.

    roots: the fields of the operation's type to choose from. A field whose arguments are not known is left out where
    it needs some.
    """

    schema: GraphQLSchema
    operation: str
    roots: Sequence[str]
    arguments: Mapping[str, Sequence[str]]
    firsts: Sequence[int]
    leave_out: frozenset[str] = frozenset()

    def type_of(self, name: str) -> GraphQLObjectType:
        type_ = self.schema.type_map[name]
        assert isinstance(type_, GraphQLObjectType)
        return type_

    def target(self, on: str, name: str) -> GraphQLNamedType:
        """Return the type of a field's rows: of a connection that of its nodes."""
        target: GraphQLNamedType = get_named_type(self.type_of(on).fields[name].type)
        if isinstance(target, GraphQLObjectType) and target.name.endswith(_CONNECTION):
            edge = get_named_type(target.fields["edges"].type)
            assert isinstance(edge, GraphQLObjectType)
            target = get_named_type(edge.fields["node"].type)
        return target

    def is_connection(self, on: str, name: str) -> bool:
        named: GraphQLNamedType = get_named_type(self.type_of(on).fields[name].type)
        return named.name.endswith(_CONNECTION)

    def leaves(self, on: str) -> list[str]:
        fields = self.type_of(on).fields
        return [n for n, f in fields.items() if is_leaf_type(get_named_type(f.type)) and not f.args]

    def links(self, on: str) -> list[str]:
        if on == self.operation:
            return list(self.roots)
        return [
            name
            for name, f in self.type_of(on).fields.items()
            if not is_leaf_type(get_named_type(f.type)) and f"{on}.{name}" not in self.leave_out
        ]


@dataclass(slots=True)
class Shaper:
    """Makes and changes shapes by chance."""

    words: Vocabulary
    chance: random.Random
    _possible: dict[str, list[str]] = field(default_factory=dict)

    def seed(self, depth: int) -> Shape:
        """Return a shape that follows all links of all types down to a depth, each type once a level."""
        fragments: list[Fragment] = []
        places: dict[tuple[int, str], int] = {}
        order: list[tuple[int, str]] = [(0, self.words.operation)]
        places[order[0]] = 0
        for level, on in order:  # grows while it is read: a level after the other
            links = []
            for name in self.words.links(on) if level < depth else ():
                key = (level + 1, self._target(on, name))
                if key not in places:
                    places[key] = len(order)
                    order.append(key)
                links.append(self._link(on, name, places[key]))
            fragments.append(Fragment(on, tuple(self.words.leaves(on)) if level else (), tuple(links)))
        return Shape(tuple(fragments))

    def single(self) -> list[Shape]:
        """Return shapes that ask for one link: each link of the operation's type with each of its arguments, and each
        link of what those lead to."""
        words, shapes = self.words, []
        for name in words.links(words.operation):
            target = self._target(words.operation, name)
            choices = self._all_arguments(words.operation, name)
            leaves = Fragment(target, tuple(words.leaves(target)), ())
            for given in choices:
                shapes.append(Shape((Fragment(words.operation, (), (Link(name, given, 1),)), leaves)))
            root = Fragment(words.operation, (), (Link(name, choices[0], 1),))
            for inner in words.links(target):
                last = self._target(target, inner)
                below = Fragment(last, tuple(words.leaves(last)), ())
                for given in self._all_arguments(target, inner):
                    shapes.append(Shape((root, Fragment(target, (), (Link(inner, given, 2),)), below)))
        return shapes

    def _all_arguments(self, on: str, name: str) -> list[str]:
        """Return every choice of one argument, with the largest page."""
        keys = list(self.words.type_of(on).fields[name].args)
        first = f"first: {max(self.words.firsts)}" if "first" in keys else ""
        others = [key for key in keys if key not in ("first", "after")]
        if not others:
            return [f"({first})" if first else ""]
        choices = []
        for value in dict.fromkeys(self._values(on, name, others[0])):
            parts = [f"{others[0]}: {value}" if value else "", first]
            parts += [
                f"{key}: {self._values(on, name, key)[0]}"
                for key in others[1:]
                if any(self._values(on, name, key))
            ]
            written = ", ".join(part for part in parts if part)
            choices.append(f"({written})" if written else "")
        return choices

    def changed(self, shape: Shape) -> Shape:
        """Return a shape that differs in one to three places."""
        changes = [
            self._add, self._add, self._drop, self._drop, self._deepen, self._share, self._argue, self._thin
        ]  # fmt: skip
        for _ in range(self.chance.randint(1, 3)):
            after = self.chance.choice(changes)(shape)
            shape = shape if reached(after) is None else after
        return shape

    def _link(self, on: str, name: str, to: int) -> Link:
        return Link(name, self._arguments(on, name), to)

    def _target(self, on: str, name: str) -> str:
        target = self.words.target(on, name)
        if isinstance(target, GraphQLInterfaceType):
            possible = self.words.schema.get_possible_types(target)
            return self.chance.choice([each.name for each in possible])
        return target.name

    def _arguments(self, on: str, name: str) -> str:
        parts = []
        for key in self.words.type_of(on).fields[name].args:
            values = self._values(on, name, key)
            value = self.chance.choice(values) if values else ""
            if value:
                parts.append(f"{key}: {value}")
        return f"({', '.join(parts)})" if parts else ""

    def _values(self, on: str, name: str, key: str) -> Sequence[str]:
        known = self.words.arguments
        if key == "first":
            return [str(n) for n in self.words.firsts]
        return known.get(f"{on}.{name}.{key}", known.get(f"{name}.{key}", known.get(key, ("",))))

    # ── changes ─────────────────────────────────────────────────────────────────────────────────

    def _some(self, shape: Shape) -> int:
        return self.chance.randrange(len(shape.fragments))

    def _with(self, shape: Shape, place: int, fragment: Fragment) -> Shape:
        parts = list(shape.fragments)
        parts[place] = fragment
        return Shape(tuple(parts))

    def _add(self, shape: Shape) -> Shape:
        """Follow one more link, to a fragment that is there or to a new one."""
        place = self._some(shape)
        part = shape.fragments[place]
        names = self.words.links(part.on)
        if not names:
            return shape
        name = self.chance.choice(names)
        target = self._target(part.on, name)
        later = [n for n in range(place + 1, len(shape.fragments)) if shape.fragments[n].on == target]
        if later and self.chance.random() < 0.7:
            to = self.chance.choice(later)
        else:
            to = len(shape.fragments)
            shape = Shape((*shape.fragments, Fragment(target, tuple(self.words.leaves(target)), ())))
        link = self._link(part.on, name, to)
        return self._with(shape, place, replace(part, links=(*part.links, link)))

    def _drop(self, shape: Shape) -> Shape:
        place = self._some(shape)
        part = shape.fragments[place]
        if not part.links:
            return shape
        gone = self.chance.randrange(len(part.links))
        links = tuple(link for n, link in enumerate(part.links) if n != gone)
        return self._with(shape, place, replace(part, links=links))

    def _deepen(self, shape: Shape) -> Shape:
        """Let a fragment spread a copy of one that asks of the same type, so that there is a level more."""
        place = self._some(shape)
        part = shape.fragments[place]
        if not part.links:
            return shape
        end = len(shape.fragments)
        shape = Shape((*shape.fragments, part))
        links = tuple(
            replace(link, to=end) if shape.fragments[link.to].on == part.on else link for link in part.links
        )
        return self._with(shape, place, replace(part, links=links)) if links != part.links else shape

    def _share(self, shape: Shape) -> Shape:
        """Let a link spread another fragment of its type."""
        place = self._some(shape)
        part = shape.fragments[place]
        if not part.links:
            return shape
        n = self.chance.randrange(len(part.links))
        link = part.links[n]
        on = shape.fragments[link.to].on
        others = [m for m in range(place + 1, len(shape.fragments)) if shape.fragments[m].on == on]
        if not others:
            return shape
        links = (*part.links[:n], replace(link, to=self.chance.choice(others)), *part.links[n + 1 :])
        return self._with(shape, place, replace(part, links=links))

    def _argue(self, shape: Shape) -> Shape:
        """Give a link other arguments."""
        place = self._some(shape)
        part = shape.fragments[place]
        if not part.links:
            return shape
        n = self.chance.randrange(len(part.links))
        link = part.links[n]
        other = replace(link, arguments=self._arguments(part.on, link.name))
        return self._with(shape, place, replace(part, links=(*part.links[:n], other, *part.links[n + 1 :])))

    def _thin(self, shape: Shape) -> Shape:
        """Ask for fewer or other leaves: they have their cost too."""
        place = self._some(shape)
        part = shape.fragments[place]
        leaves = self.words.leaves(part.on)
        if place == 0 or not leaves:
            return shape
        kept = tuple(self.chance.sample(leaves, self.chance.randint(0, len(leaves))))
        return self._with(shape, place, replace(part, leaves=kept))


def repeated(shape: Shape, times: int) -> Shape:
    """Return a shape that follows so many times the links of the fragment before its last one."""
    *before, part, last = shape.fragments
    return Shape((*before, replace(part, links=part.links * times), last))


def reached(shape: Shape) -> list[int] | None:
    """Return the fragments that the operation spreads, itself first; None where one is within itself."""
    done: dict[int, bool] = {}  # False: on the way to here

    def visit(place: int) -> bool:
        if place in done:
            return done[place]
        done[place] = False
        done[place] = all(visit(link.to) for link in shape.fragments[place].links)
        return done[place]

    return sorted(done) if visit(0) else None


def written(shape: Shape, words: Vocabulary) -> str:
    """Return the document of a shape. Fragments that nothing spreads are left out."""
    texts = []
    for place in reached(shape) or ():
        part = shape.fragments[place]
        head = words.operation.lower() if place == 0 else f"fragment F{place} on {part.on}"
        texts.append(f"{head} {{ {_body(shape, part, words)} }}")
    return "\n".join(texts)


def _body(shape: Shape, part: Fragment, words: Vocabulary) -> str:
    pieces = list(part.leaves)
    taken: dict[str, Link] = {}
    for n, link in enumerate(part.links):
        same = taken.get(link.name)
        alias = f"a{n}: " if same is not None else ""
        taken.setdefault(link.name, link)
        inner = f"{{ ...F{link.to} }}"
        if isinstance(words.target(part.on, link.name), GraphQLInterfaceType):
            inner = f"{{ __typename ... on {shape.fragments[link.to].on} {{ ...F{link.to} }} }}"
        if words.is_connection(part.on, link.name):
            inner = f"{{ edges {{ cursor node {inner} }} pageInfo {{ hasNextPage endCursor }} }}"
        pieces.append(f"{alias}{link.name}{link.arguments} {inner}")
    return " ".join(pieces) or "__typename"
