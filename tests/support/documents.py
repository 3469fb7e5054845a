"""Random GraphQL queries, made from the schema by introspection: whatever it grows by is asked too."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    get_named_type,
    get_nullable_type,
    is_enum_type,
    is_input_object_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)
from hypothesis import strategies as st

T = TypeVar("T")
_PLUMBING = ("Connection", "Edge", "PageInfo")
_MAX_FIELDS = 30
_MAX_DEPTH = 5

CURSOR = "cursor:{}:{}"
"""Stands in a document for a cursor of a connection type: its name, and which one of them."""


@dataclass(frozen=True)
class Query:
    text: str
    variables: dict[str, Any]


@dataclass(frozen=True)
class Values:
    """What arguments are made of. ids: real ones, by prefix; texts: by the name of the argument."""

    ids: Mapping[str, Sequence[str]]
    texts: Mapping[str, Sequence[str]]
    codes: Mapping[str, Sequence[str]]
    integers: Mapping[str, Sequence[int]]


_WILD: Mapping[str, Sequence[Any]] = {
    "first": [0, 101, -1],
    "after": [
        "",
        "WzFd",
        "é",
        "[]",
        *(CURSOR.format(f"{name}Connection", 0) for name in ("Person", "Change")),
    ],
}
BAD_IDS = ("", "person_", "person_01", "person_0", "person_999", "x_1", "person_99999999999999999999", "1")


@st.composite
def queries(draw: st.DrawFn, schema: GraphQLSchema, values: Values, avoid: frozenset[str]) -> Query:
    """Valid queries of up to five rows' depth; now and then with an argument that is out of range.

    `avoid`: fields of the query type that are hardly ever asked, since they would be refused.
    """
    avoided = avoid if draw(st.integers(0, 7)) < 7 else frozenset()
    return _Writer(draw, schema, values, avoided).query()


@dataclass
class _Writer:
    """Writes one document. A field with arguments, or one at risk of a clash, always has an alias of its own."""

    draw: st.DrawFn
    schema: GraphQLSchema
    values: Values
    avoid: frozenset[str]
    names: int = 0
    fields: int = 0
    definitions: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    fragments: list[tuple[str, str, int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def query(self) -> Query:
        root = self.schema.query_type
        assert root is not None
        body = self._selections(root, _MAX_DEPTH, alone=False)
        names = ", ".join(f"${name}: {type_}" for name, type_ in self.definitions.items())
        head = f"query Asked({names})" if names else self._one(["query", "query Asked", ""])
        return Query("\n".join([f"{head} {body}".strip(), *self.texts]), self.variables)

    # ── drawing ─────────────────────────────────────────────────────────────────────────────────

    def _one(self, values: Sequence[T]) -> T:
        return self.draw(st.sampled_from(values))

    def _chance(self, one_in: int) -> bool:
        return self.draw(st.integers(1, one_in)) == one_in

    def _name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    # ── selections ──────────────────────────────────────────────────────────────────────────────

    def _selections(self, type_: GraphQLObjectType | GraphQLInterfaceType, depth: int, *, alone: bool) -> str:
        count = self.draw(st.integers(*((1, 1) if self.fields > _MAX_FIELDS else (2, 5))))
        parts = [self._selection(type_, depth, alone=alone) for _ in range(count)]
        return f"{{ {' '.join(parts)} }}"

    def _selection(self, type_: GraphQLObjectType | GraphQLInterfaceType, depth: int, *, alone: bool) -> str:
        match self.draw(st.integers(0, 11)):
            case 0:
                return f"__typename{self._directive()}"
            case 1:
                return self._inline(type_, depth, alone=alone)
            case 2:
                return self._spread(type_, depth, alone=alone)
        if isinstance(type_, GraphQLInterfaceType) and not self._chance(4):
            return self._inline(type_, depth, alone=alone)
        name = self._which(type_, depth)
        if name is None:
            return "__typename"
        written = self._field(type_, name, depth, alone=alone)
        again = bool(type_.fields[name].args) and self._chance(4)
        return f"{written} {self._field(type_, name, depth, alone=alone)}" if again else written

    def _which(self, type_: GraphQLObjectType | GraphQLInterfaceType, depth: int) -> str | None:
        """Choose a field, as often one with fields of its own as one without; of the query, mostly the graph's."""
        names = [
            name for name in type_.fields if type_ is not self.schema.query_type or name not in self.avoid
        ]
        leaves = [name for name in names if is_leaf_type(get_named_type(type_.fields[name].type))]
        inner = [name for name in names if name not in leaves] if depth > 0 else []
        if type_ is self.schema.query_type and self._chance(2):
            inner = [name for name in ("viewer", "person", "people", "node", "household") if name in inner]
        groups = [group for group in (inner, leaves) if group]
        return self._one(self._one(groups)) if groups else None

    def _inline(self, type_: GraphQLObjectType | GraphQLInterfaceType, depth: int, *, alone: bool) -> str:
        target = self._narrowed(type_)
        apart = alone or isinstance(type_, GraphQLInterfaceType)
        bare = target is type_ and self._chance(2)
        condition = "" if bare else f" on {target.name}"
        return f"...{condition}{self._directive()} {self._selections(target, depth - 1, alone=apart)}"

    def _spread(self, type_: GraphQLObjectType | GraphQLInterfaceType, depth: int, *, alone: bool) -> str:
        target = self._narrowed(type_)
        known = [name for name, on, deep in self.fragments if on == target.name and deep <= depth]
        if known and self._chance(2):
            name = self._one(known)
        else:
            name = self._name("F")
            # Its fields have aliases of their own, so that it may be spread beside anything.
            body = self._selections(target, depth - 1, alone=True)
            self.texts.append(f"fragment {name} on {target.name} {body}")
            self.fragments.append((name, target.name, depth))
        return f"...{name}{self._directive()}"

    def _narrowed(
        self, type_: GraphQLObjectType | GraphQLInterfaceType
    ) -> GraphQLObjectType | GraphQLInterfaceType:
        """Return a type that a fragment may be on where an object of this type stands."""
        if isinstance(type_, GraphQLInterfaceType):
            possible: Sequence[GraphQLObjectType | GraphQLInterfaceType] = self.schema.get_possible_types(
                type_
            )
            return self._one([*possible, type_])
        narrowed: Sequence[GraphQLObjectType | GraphQLInterfaceType] = (type_, type_, *type_.interfaces)
        return self._one(narrowed)

    def _field(
        self, type_: GraphQLObjectType | GraphQLInterfaceType, name: str, depth: int, *, alone: bool
    ) -> str:
        self.fields += 1
        field_ = type_.fields[name]
        target = get_named_type(field_.type)
        arguments = self._arguments(name, field_, wild=self._chance(12))
        apart = bool(arguments) or alone or self._chance(6)
        alias = f"{self._name('a')}: " if apart else ""
        body = ""
        if isinstance(target, GraphQLObjectType | GraphQLInterfaceType):
            deeper = depth if target.name.endswith(_PLUMBING) else depth - 1
            body = f" {self._selections(target, deeper, alone=False)}"
        return f"{alias}{name}{arguments}{self._directive()}{body}"

    def _directive(self) -> str:
        if not self._chance(10):
            return ""
        name = self._one(["skip", "include"])
        flag = self.draw(st.booleans())
        return f" @{name}(if: {self._variable('Boolean!', flag) if self._chance(2) else json.dumps(flag)})"

    # ── arguments ───────────────────────────────────────────────────────────────────────────────

    def _arguments(self, name: str, field_: GraphQLField, *, wild: bool) -> str:
        connection = get_named_type(field_.type).name
        written = []
        for key, argument in field_.args.items():
            required = is_non_null_type(argument.type) and argument.default_value is Undefined
            if not (required or self._chance(2)):
                continue
            written.append(f"{key}: {self._argument(f'{connection}.{name}', key, argument, wild=wild)}")
        return f"({', '.join(written)})" if written else ""

    def _argument(self, field_: str, key: str, argument: GraphQLArgument, *, wild: bool) -> str:
        value = self._one(_WILD[key]) if wild and key in _WILD else self._value(argument.type, field_, key)
        if self._chance(2):
            return _literal(value, argument.type)
        optional = argument.default_value is not Undefined and value is not None and self._chance(3)
        if optional and self._chance(2):
            return self._left_out(argument)
        return self._variable(str(argument.type), value, default=optional)

    def _left_out(self, argument: GraphQLArgument) -> str:
        """Return a variable that no value is given for: the argument's own default holds."""
        name = self._name("v")
        self.definitions[name] = str(get_nullable_type(argument.type))
        return f"${name}"

    def _variable(self, type_: str, value: Any, *, default: bool = False) -> str:
        name = self._name("v")
        usable = default and isinstance(value, bool | int)
        self.definitions[name] = f"{type_} = {json.dumps(value)}" if usable else type_
        if not usable or self._chance(2):
            self.variables[name] = value
        return f"${name}"

    def _value(self, type_: GraphQLInputType, field_: str, key: str) -> Any:
        if not is_non_null_type(type_) and self._chance(6):
            return None
        bare = get_nullable_type(type_)
        if is_list_type(bare):
            return [self._value(bare.of_type, field_, key) for _ in range(self.draw(st.integers(0, 3)))]
        if is_input_object_type(bare):
            return {
                name: self._value(each.type, field_, name)
                for name, each in bare.fields.items()
                if (is_non_null_type(each.type) and each.default_value is Undefined) or self._chance(4)
            }
        if is_enum_type(bare):
            return self._one(list(bare.values))
        return self._scalar(str(bare), field_, key)

    def _scalar(self, type_: str, field_: str, key: str) -> Any:
        match type_:
            case "Boolean":
                return self.draw(st.booleans())
            case "Int":
                return self._one(self.values.integers[key])
            case "ID":
                return self._id(field_, key)
            case "String" if key == "after":
                return CURSOR.format(field_.partition(".")[0], self.draw(st.integers(0, 99)))
            case "String":
                return self._one(self.values.texts[key])
        return self._one(self.values.codes[type_])

    def _id(self, field_: str, key: str) -> str:
        if self._chance(6):
            return self._one(BAD_IDS)
        prefixes = {
            "Person.person": "person", "Household.household": "household", "BatchRun.batchRun": "run",
            "schoolId": "school", "schoolIds": "school", "filterId": "filter", "ids": "person",
        }  # fmt: skip
        prefix = prefixes.get(key) or prefixes.get(field_) or self._one(list(self.values.ids))
        if self._chance(10):
            prefix = self._one(list(self.values.ids))
        return self._one(self.values.ids[prefix])


def _literal(value: Any, type_: GraphQLInputType) -> str:
    """Return a value as it stands in a document."""
    bare = get_nullable_type(type_)
    if value is None:
        return "null"
    if is_list_type(bare):
        return f"[{', '.join(_literal(each, bare.of_type) for each in value)}]"
    if is_input_object_type(bare):
        parts = (f"{name}: {_literal(each, bare.fields[name].type)}" for name, each in value.items())
        return f"{{{', '.join(parts)}}}"
    return str(value) if is_enum_type(bare) else json.dumps(value, ensure_ascii=False)
