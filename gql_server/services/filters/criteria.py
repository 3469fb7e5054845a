"""Compiles the criteria of a saved filter to SQL. Values become parameters; no text of a client becomes SQL.

The grammar: `{"all": [..]}`, `{"any": [..]}`, `{"not": {..}}`, and leaves: `{"field": "grade", "is": "09"}`,
`{"field": "grade", "in": ["09", "10"]}`.
"""

from collections.abc import Iterator, Mapping
from typing import NoReturn

from gql_server.db.plugin_errors import Fragment
from gql_server.domain.batch import FilterKind
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.limits import CRITERIA_TEXT, GLOBAL_ID
from gql_server.domain.sql import Sql
from gql_server.errors import Rejected, UserError, rejected
from gql_server.hooks import FieldType, FilterField
from gql_server.hooks.host import PluginHost

MAX_DEPTH = 8
MAX_NODES = 200
MAX_VALUES = 10_000

_CODE = "INVALID_CRITERIA"
_INTEGERS = range(-(2**31), 2**31)
_SHAPE = (
    'Write {"all": [..]}, {"any": [..]}, {"not": {..}}, {"field": .., "is": ..} or {"field": .., "in": [..]}.'
)
_JOINED = {"all": " and ", "any": " or "}
_TYPE_WORDS = {
    FieldType.TEXT: f"text of at most {CRITERIA_TEXT.longest} characters",
    FieldType.INTEGER: "a whole number of at most 32 bits",
    FieldType.BOOLEAN: "true or false",
    FieldType.ID: "an id, as this API gave it",
}

Path = tuple[str, ...]


def compile_criteria(criteria: object, kind: FilterKind, host: PluginHost) -> Sql:
    """Return a predicate over the row `p` of `person`, with all its parameters except the ambient ones.

    Raises Rejected: one INVALID_CRITERIA for each thing to correct, with a path that begins with "criteria".
    """
    compiler = _Compiler(host.fields[kind], kind)
    text = compiler.node(criteria, ("criteria",), depth=1)
    if compiler.errors:
        raise Rejected(compiler.errors)
    return Sql(text, compiler.args)


def fragments_in(criteria: object, kind: FilterKind, host: PluginHost) -> tuple[Fragment, ...]:
    """Return the SQL of each filter field that valid criteria use, once each."""
    fields = [host.fields[kind][name] for name in dict.fromkeys(_field_names(criteria))]
    return tuple(
        Fragment(host.field_plugins[field.name], f"filter field {field.name!r}", Sql(field.predicate))
        for field in fields
    )


def _field_names(criteria: object) -> Iterator[str]:
    if isinstance(criteria, list):
        for part in criteria:
            yield from _field_names(part)
    elif isinstance(criteria, dict):
        if "field" in criteria:
            yield str(criteria["field"])
        else:
            for parts in criteria.values():
                yield from _field_names(parts)


def storable(text: str) -> bool:
    """Return whether PostgreSQL can store a text: it has no NUL and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


class _Compiler:
    """Compiles the criteria and collects all errors. Exceeding a limit raises at once."""

    def __init__(self, fields: Mapping[str, FilterField], kind: FilterKind) -> None:
        self.errors: list[UserError] = []
        self.args: dict[str, object] = {}
        self._fields = fields
        self._kind = kind
        self._nodes = 0
        self._values = 0

    def node(self, node: object, path: Path, depth: int) -> str:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            _beyond(f"Criteria have at most {MAX_NODES} parts.", path)
        if depth > MAX_DEPTH:
            _beyond(f"Criteria are nested at most {MAX_DEPTH} deep.", path)
        if not isinstance(node, dict):
            return self._wrong(f"This is not an object. {_SHAPE}", path)
        if "field" in node:
            return self._leaf(node, path)
        if len(node) == 1:
            for key in _JOINED.keys() & node.keys():
                return self._group(key, node[key], (*path, key), depth)
            if "not" in node:
                # A criterion that is NULL does not match, so its negation does.
                return f"({self.node(node['not'], (*path, 'not'), depth + 1)}) is not true"
        return self._wrong(f"These keys make no sense together: {_listed(node)}. {_SHAPE}", path)

    def _group(self, key: str, parts: object, path: Path, depth: int) -> str:
        if not isinstance(parts, list) or not parts:
            return self._wrong(f"{key!r} takes a list of at least one part.", path)
        texts = [self.node(part, (*path, str(n)), depth + 1) for n, part in enumerate(parts)]
        return f"({_JOINED[key].join(texts)})"

    def _leaf(self, leaf: dict[str, object], path: Path) -> str:
        name, given = leaf["field"], leaf.keys() - {"field"}
        field = self._fields.get(name) if isinstance(name, str) else None
        if field is None:
            return self._wrong(
                f"{self._kind} filters have no field {_quoted(name)}. Use one of {', '.join(self._fields)}.",
                (*path, "field"),
            )
        if given not in ({"is"}, {"in"}):
            return self._wrong(
                f"A field takes one of 'is' and 'in', and no other key; here are {_listed(leaf)}.", path
            )
        if field.type is FieldType.BOOLEAN:
            return self._boolean(field, leaf, path)
        values = self._validated_values(field, leaf, path)
        predicate = Sql(field.predicate, {"value": values}).renamed(f"n{self._nodes}")
        self.args.update(predicate.args)
        return f"({predicate.text})"

    def _boolean(self, field: FilterField, leaf: dict[str, object], path: Path) -> str:
        if not isinstance(leaf.get("is"), bool):
            return self._wrong(f"The field {field.name!r} takes 'is' with true or false.", path)
        return f"({field.predicate})" if leaf["is"] else f"({field.predicate}) is not true"

    def _validated_values(self, field: FilterField, leaf: dict[str, object], path: Path) -> list[object]:
        """Return the leaf's values for PostgreSQL. Ids that cannot exist are left out."""
        many = "in" in leaf
        values = leaf["in"] if many else [leaf["is"]]
        if not isinstance(values, list) or not values:
            self._wrong("'in' takes a list of at least one value.", (*path, "in"))
            return []
        self._values += len(values)
        if self._values > MAX_VALUES:
            _beyond(f"Criteria have at most {MAX_VALUES} values in all.", (*path, "in"))
        for n, value in enumerate(values):
            if problem := _problem(field, value):
                self._wrong(problem, (*path, "in", str(n)) if many else (*path, "is"))
                return []
        if field.type is not FieldType.ID or field.id_prefix is None:
            return list(values)
        ids = (parse_id(IdKind(field.id_prefix), value) for value in values)
        return [number for number in ids if number is not None]

    def _wrong(self, message: str, path: Path) -> str:
        self.errors.append(UserError(_CODE, message, path))
        return "false"


def _problem(field: FilterField, value: object) -> str | None:
    fits = {
        FieldType.TEXT: isinstance(value, str)
        and CRITERIA_TEXT.length_error(value) is None
        and storable(value),
        FieldType.INTEGER: isinstance(value, int) and not isinstance(value, bool) and value in _INTEGERS,
        FieldType.ID: isinstance(value, str) and GLOBAL_ID.length_error(value) is None and storable(value),
    }[field.type]
    if not fits:
        return f"The field {field.name!r} takes {_TYPE_WORDS[field.type]}."
    if field.values is not None and value not in field.values:
        return f"The field {field.name!r} takes one of {', '.join(field.values)}."
    return None


def _beyond(message: str, path: Path) -> NoReturn:
    raise rejected(_CODE, message, *path)


def _quoted(name: object) -> str:
    return repr(name[:40]) if isinstance(name, str) else "that is not text"


def _listed(keys: Mapping[str, object]) -> str:
    shown = [_quoted(key) for key in list(keys)[:5]]
    return ", ".join(shown) + (", ..." if len(keys) > 5 else "") if shown else "none"
