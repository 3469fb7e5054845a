"""Texts that somebody might send to break something, and every place of the API that takes a text."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputType,
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

HUGE = 200_000
"""Characters of the longest hostile text: beyond every limit, within a request."""


def _cursor(*keys: object) -> str:
    return base64.b64encode(json.dumps(keys).encode()).decode()


TEXTS: Mapping[str, str] = {
    "empty": "",
    "blank": " \t ",
    "a NUL": "a\0b",
    "half a surrogate pair": "\ud800",
    "the other half": "person_\udfff",
    "lines": "one\r\ntwo\n",
    "a line separator": "one\u2028two",
    "right to left": "\u202eevil \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "emoji": "👩‍🏫🏽" * 5,
    "SQL": "'; drop table person cascade; -- \" \\ %s $1 :district_id {parent} {{child}}",
    "not a character": "\uffff\ufffe",
    "combining": "e" + "\u0301" * 1_000,
    "huge": "x" * HUGE,
    "many words": "a b " * 2_000,
    "a number beyond all": "9" * 5_000,
    "an id beyond all": "person_9223372036854775808",
    "negative": "-1",
    "a cursor of huge numbers": _cursor(10**40, 10**40, 10**40),
    "a cursor with a NUL": _cursor("a\0", "b", 1),
    "a cursor of one huge text": _cursor("x" * HUGE, "b", 1),
    "a cursor of nests": base64.b64encode(b"[" * 5_000).decode(),
}
_NOT_TEXTS: tuple[Any, ...] = (2**63, -(2**63) - 1, 10**400, 1.5, 1e308, True, None, [], {}, [[["x"]]])


def _nested(depth: int) -> Any:
    value: Any = {"field": "grade", "is": "09"}
    for _ in range(depth):
        value = {"not": value}
    return value


_JSON: tuple[Any, ...] = (
    _nested(9),
    _nested(400),
    {"all": [{"field": "grade", "is": "09"}] * 5_000},
    *({"field": "grade", "in": ["09", text]} for text in TEXTS.values()),
    *({"field": "person", "is": text} for text in TEXTS.values()),
    *({text: 1, "field": text, "is": 1} for text in TEXTS.values()),
    *({"field": "schoolYear", "is": number} for number in (2**31, 10**400, 1.5, 1e308, True)),
)


@dataclass(frozen=True)
class Place:
    """One text in one argument of one field: the document to send, and the value of its variable `$value`."""

    name: str
    scalar: str
    document: str
    valid: Any
    path: tuple[str | int, ...]

    def value(self, hostile: Any) -> Any:
        """Return the argument with the hostile value in this place, and valid ones everywhere else."""
        return _put(self.valid, self.path, hostile)

    @property
    def hostile(self) -> list[Any]:
        """Return what to send to this place."""
        more = _JSON if self.scalar == "JSON" else ()
        return [*TEXTS.values(), *_NOT_TEXTS, *more]


def _put(value: Any, path: tuple[str | int, ...], leaf: Any) -> Any:
    if not path:
        return leaf
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _put(value[path[0]], path[1:], leaf)
    return copy


class Places:
    """Finds the places of a schema. `valid`: values by the name of the field, argument or input's field."""

    def __init__(self, schema: GraphQLSchema, valid: Mapping[str, Any]) -> None:
        self._schema, self._given = schema, valid

    def of(self, root: GraphQLObjectType, operation: str) -> Iterator[Place]:
        """Yield the places of all fields that the root leads to, each type visited once, by a shortest way."""
        queue: list[tuple[GraphQLObjectType, list[str]]] = [(root, [])]
        seen = {root.name}
        while queue:
            type_, way = queue.pop(0)
            for name, field in type_.fields.items():
                for key in field.args:
                    yield from self._argument(way, name, field, key, operation)
                target = get_named_type(field.type)
                if isinstance(target, GraphQLObjectType) and target.name not in seen and operation == "query":
                    seen.add(target.name)
                    queue.append((target, [*way, f"{name}{self._arguments(name, field)}"]))

    def _argument(
        self, way: list[str], name: str, field: GraphQLField, key: str, operation: str
    ) -> Iterator[Place]:
        argument = field.args[key]
        valid = self._valid(argument.type, f"{name}.{key}")
        target = get_named_type(field.type)
        inner = "" if is_leaf_type(target) else f" {{ {self._selection(target)} }}"
        others = self._arguments(name, field, but=key)
        asked = f"{name}({key}: $value{', ' + others[1:-1] if others else ''}){inner}"
        for step in reversed(way):
            asked = f"{step} {{ {asked} }}"
        document = f"{operation} ($value: {argument.type}) {{ {asked} }}"
        for path, scalar in _texts(argument.type, valid):
            label = ".".join(map(str, (*(step.partition("(")[0] for step in way), name, key, *path)))
            yield Place(label, scalar, document, valid, path)

    @staticmethod
    def _selection(type_: Any) -> str:
        if "userErrors" in type_.fields:
            return "userErrors { code message path }"
        return "edges { cursor }" if "edges" in type_.fields else "__typename"

    def _arguments(self, name: str, field: GraphQLField, but: str | None = None) -> str:
        """Return the arguments that a field must have, as they stand in a document."""
        parts = [
            f"{key}: {_literal(self._valid(argument.type, f'{name}.{key}'), argument.type)}"
            for key, argument in field.args.items()
            if key != but and _required(argument)
        ]
        return f"({', '.join(parts)})" if parts else ""

    def _valid(self, type_: GraphQLInputType, name: str) -> Any:
        bare: Any = get_nullable_type(type_)
        if is_list_type(bare):
            return [self._valid(bare.of_type, name)]
        if is_input_object_type(bare):
            return {key: self._valid(each.type, f"{bare.name}.{key}") for key, each in bare.fields.items()}
        for known in (name, name.partition(".")[2]):
            if known in self._given:
                return self._given[known]
        if is_enum_type(bare):
            return next(iter(bare.values))
        return {"Boolean": True, "Int": 1}.get(bare.name, "x")


def _required(argument: GraphQLArgument) -> bool:
    return is_non_null_type(argument.type) and argument.default_value is Undefined


def _texts(type_: GraphQLInputType, valid: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the ways to the texts in an argument's value, each with the name of its scalar."""
    bare: Any = get_nullable_type(type_)
    if is_list_type(bare):
        yield from (((0, *path), scalar) for path, scalar in _texts(bare.of_type, valid[0]))
    elif is_input_object_type(bare):
        for key, each in bare.fields.items():
            yield from (((key, *path), scalar) for path, scalar in _texts(each.type, valid[key]))
    elif not is_enum_type(bare) and bare.name not in ("Boolean", "Int", "Float"):
        yield (), bare.name


def _literal(value: Any, type_: GraphQLInputType) -> str:
    bare: Any = get_nullable_type(type_)
    if is_list_type(bare):
        return f"[{', '.join(_literal(each, bare.of_type) for each in value)}]"
    if is_input_object_type(bare):
        parts = (f"{key}: {_literal(each, bare.fields[key].type)}" for key, each in value.items())
        return f"{{{', '.join(parts)}}}"
    return str(value) if is_enum_type(bare) else json.dumps(value)
