"""The compiler: the fields of an object become one SQL expression that gives their JSON.

Objects are `json_build_object` over a row, lists are `json_agg` over a correlated subquery; every row comes from a
file of `sql/graph`, which says who may see it. The text depends on the document, the role and on which arguments
are given, never on values: those are parameters.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    SelectionSetNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
)
from graphql.execution.values import VariableValues, get_argument_values

from gql_server.db.statements import statement
from gql_server.domain.sql import parameters, slots
from gql_server.domain.viewer import Role
from gql_server.errors import Forbidden, InvalidArgument
from gql_server.reads.cursors import cursor_sql, page_size, parse_cursor
from gql_server.reads.links import (
    AnyLink,
    Args,
    Condition,
    ConnectionLink,
    Expression,
    Link,
    Links,
    NodeLink,
    Params,
    ReadContext,
    Slots,
)
from gql_server.reads.selections import collect_fields, sub_selections

AMBIENT = frozenset({"district_id", "today", "viewer_role", "viewer_person_id", "viewer_source_id"})
"""Parameters that every graph file and condition may use."""

_MAX_KEYS = 50  # PostgreSQL functions take 100 arguments


@dataclass(frozen=True, slots=True)
class Value:
    """Where the parameters of one field come from: its arguments, and the function that makes values of them."""

    prefix: str
    field: GraphQLField
    node: FieldNode
    extra: Args
    params: Params

    def args(self, variables: VariableValues) -> Args:
        return {**get_argument_values(self.field, self.node, variables), **self.extra}


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the text for SQL that the request makes. `alias` is the row that `{parent}` stands for."""

    prefix: str
    alias: str
    value: Value
    slots: Slots


@dataclass(frozen=True, slots=True)
class Compiled:
    """One SELECT of one JSON value, and what to ask of a request before it can run."""

    text: str
    values: tuple[Value, ...]
    slots: tuple[Slot, ...]


@cache
def snake(name: str) -> str:
    """Return the column of a field: `firstName` is `first_name`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@cache
def _body(name: str) -> str:
    """Return the text of a file of `sql/` without its header."""
    return "\n".join(line for line in statement(name).text.splitlines() if not line.startswith("--"))


def graph_rows(table: str) -> str:
    """Return the SELECT of a graph file: the rows that the viewer may see, for a condition that looks at them."""
    return _body(f"graph/{table}")


class Compiler:
    """Compiles the fields of one operation (or of one field of it) for one role."""

    def __init__(
        self,
        schema: GraphQLSchema,
        links: Links,
        role: Role,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: VariableValues,
    ) -> None:
        self._schema, self._links, self._role = schema, links, role
        self._fragments, self._variables = fragments, variables
        self._aliases = 0
        self._values: list[Value] = []
        self._slots: list[Slot] = []

    def operation(self, type_: GraphQLObjectType, selection_set: SelectionSetNode) -> Compiled:
        """Return the statement for a whole query: `{"data": {...}}`. Raises Forbidden, InvalidArgument."""
        data = self._object(type_, [selection_set], None)
        return self._finish(f"json_build_object('data', {data})")

    def field(
        self, type_: GraphQLObjectType, nodes: list[FieldNode], link: AnyLink | None, extra: Args
    ) -> Compiled:
        """Return the statement for one field alone; `extra` are arguments beside those in the document."""
        return self._finish(f"to_json({self._field(type_, nodes, None, link, extra)})")

    def _finish(self, expression: str) -> Compiled:
        text = f"{_body('read/viewer')}\nselect {expression}"
        person = "(select person_id from viewer)"
        text = re.sub(r":viewer_role\b", f"'{self._role.value}'", text)
        text = re.sub(r":viewer_person_id\b", person, text)
        return Compiled(text, tuple(self._values), tuple(self._slots))

    def _object(
        self, type_: GraphQLObjectType, selection_sets: Iterable[SelectionSetNode], row: str | None
    ) -> str:
        fields = collect_fields(type_, selection_sets, self._fragments, self._variables)
        return _build(
            (key, self._field(type_, nodes, row, self._links.get((type_.name, nodes[0].name.value)), {}))
            for key, nodes in fields.items()
        )

    def _field(
        self,
        type_: GraphQLObjectType,
        nodes: list[FieldNode],
        row: str | None,
        link: AnyLink | None,
        extra: Args,
    ) -> str:
        name = nodes[0].name.value
        if name == "__typename":
            return f"'{type_.name}'::text"
        if link is None:
            return f'{row}."{snake(name)}"'
        if link.roles is not None and self._role not in link.roles:
            allowed = " or ".join(sorted(link.roles))
            raise Forbidden(f"`{name}` needs a token with the role {allowed}.")
        field = type_.fields[name]
        if isinstance(link, NodeLink):
            return self._node(field, nodes, link, extra)
        if isinstance(link, ConnectionLink):
            return self._connection(field, nodes, row, link, extra)
        if isinstance(link, Expression):
            value = self._value(field, nodes[0], extra, link.params)
            return self._own(link.sql, value, row or "", row or "", link.slots)
        target = get_named_type(field.type)
        assert isinstance(target, GraphQLObjectType)
        return self._link(field, nodes, row, link, target, extra)

    def _link(
        self,
        field: GraphQLField,
        nodes: list[FieldNode],
        row: str | None,
        link: Link,
        target: GraphQLObjectType,
        extra: Args,
    ) -> str:
        if link.table is None:
            return self._object(target, sub_selections(nodes), row)
        child = self._alias()
        value = self._value(field, nodes[0], extra, link.params)
        source = self._own(_body(f"graph/{link.table}"), value, child, row or "", link.slots)
        where = self._condition(link.on, value, child, row or "")
        json = self._object(target, sub_selections(nodes), child)
        if not is_list_type(get_nullable_type(field.type)):
            return f"(select {json} from (\n{source}\n) as {child} where {where})"
        order = f" order by {(link.order or '').replace('{child}', child)}" if link.order else ""
        rows = f"json_agg({json}{order})"
        if not link.none_is_null:
            rows = f"coalesce({rows}, '[]')"
        return f"(select {rows} from (\n{source}\n) as {child} where {where})"

    def _node(self, field: GraphQLField, nodes: list[FieldNode], link: NodeLink, extra: Args) -> str:
        branches = []
        for name, branch in link.by_type.items():
            target = self._schema.type_map[name]
            assert isinstance(target, GraphQLObjectType)
            branches.append(self._link(field, nodes, None, branch, target, extra))
        return f"coalesce({', '.join(branches)})"

    def _connection(
        self,
        field: GraphQLField,
        nodes: list[FieldNode],
        row: str | None,
        link: ConnectionLink,
        extra: Args,
    ) -> str:
        """Return the expression for one page: one row more than asked for is read, to know if there is a next one."""
        inner, page = self._alias(), self._alias()
        value = self._value(field, nodes[0], extra, _page_params(link))
        has_after = value.args(self._variables).get("after") is not None
        source = self._own(_body(f"graph/{link.table}"), value, inner, row or "", None)
        where = self._condition(link.on, value, inner, row or "")
        if has_after:
            keys = ", ".join(f'{inner}."{key.column}"' for key in link.keys)
            after = ", ".join(
                f":{value.prefix}__after_{n}::{_transport(key.type)}" for n, key in enumerate(link.keys)
            )
            where += f" and ({keys}) {'<' if link.descending else '>'} ({after})"
        direction = " desc" if link.descending else ""
        order = ", ".join(f'{inner}."{key.column}"{direction}' for key in link.keys)
        target = get_named_type(field.type)
        assert isinstance(target, GraphQLObjectType)
        size = f":{value.prefix}__first::bigint"
        json = self._page(target, sub_selections(nodes), page, link, size, has_after)
        return (
            f"(select {json} from (select {inner}.*, row_number() over (order by {order}) as page_position"
            f" from (\n{source}\n) as {inner} where {where} order by {order} limit {size} + 1) as {page} having true)"
        )

    def _page(
        self,
        type_: GraphQLObjectType,
        selection_sets: list[SelectionSetNode],
        page: str,
        link: ConnectionLink,
        size: str,
        has_after: bool,
    ) -> str:
        on_page = f"filter (where {page}.page_position <= {size})"
        cursor = cursor_sql(page, link.keys)

        def part(part_type: GraphQLObjectType, nodes: list[FieldNode]) -> str:
            match nodes[0].name.value:
                case "__typename":
                    return f"'{part_type.name}'::text"
                case "edges":
                    edge_type = get_named_type(part_type.fields["edges"].type)
                    edge = self._parts(edge_type, nodes, part)
                    return f"coalesce(json_agg({edge} order by {page}.page_position) {on_page}, '[]')"
                case "pageInfo":
                    return self._parts(get_named_type(part_type.fields["pageInfo"].type), nodes, part)
                case "node":
                    node_type = get_named_type(part_type.fields["node"].type)
                    assert isinstance(node_type, GraphQLObjectType)
                    return self._object(node_type, sub_selections(nodes), page)
                case "cursor":
                    return cursor
                case "hasNextPage":
                    return f"count(*) > {size}"
                case "hasPreviousPage":
                    return str(has_after).lower()
                case "startCursor":
                    return f"(array_agg({cursor} order by {page}.page_position) {on_page})[1]"
                case _:  # endCursor: the schema has no other
                    return f"(array_agg({cursor} order by {page}.page_position desc) {on_page})[1]"

        fields = collect_fields(type_, selection_sets, self._fragments, self._variables)
        return _build((key, part(type_, nodes)) for key, nodes in fields.items())

    def _parts(
        self,
        type_: object,
        nodes: list[FieldNode],
        part: Callable[[GraphQLObjectType, list[FieldNode]], str],
    ) -> str:
        assert isinstance(type_, GraphQLObjectType)
        fields = collect_fields(type_, sub_selections(nodes), self._fragments, self._variables)
        return _build((key, part(type_, nodes)) for key, nodes in fields.items())

    def _alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}"

    def _value(self, field: GraphQLField, node: FieldNode, extra: Args, params: Params) -> Value:
        value = Value(f"f{len(self._values) + 1}", field, node, extra, params)
        self._values.append(value)
        return value

    def _condition(self, condition: Condition, value: Value, child: str, parent: str) -> str:
        text = condition if isinstance(condition, str) else condition(value.args(self._variables))
        return self._own(text, value, child, parent, None)

    def _own(self, text: str, value: Value, child: str, parent: str, fill: Slots | None) -> str:
        """Return a text with its aliases in place, and its own parameters and slots under the field's prefix."""
        text = text.replace("{child}", child).replace("{parent}", parent)
        for name in parameters(text):
            if name not in AMBIENT:
                text = re.sub(rf"(?<!:):{name}\b", f":{value.prefix}__{name}", text)
        if names := slots(text):
            assert fill is not None, f"{names} are not filled"
            for name in names:
                text = text.replace(f"{{{name}}}", f"{{{value.prefix}__{name}}}")
            self._slots.append(Slot(value.prefix, parent, value, fill))
        return text


def _build(pairs: Iterable[tuple[str, str]]) -> str:
    parts = [f"'{key}', {expression}" for key, expression in pairs]
    if len(parts) > _MAX_KEYS:
        raise InvalidArgument(f"An object of the query has more than {_MAX_KEYS} fields. Ask for fewer.")
    return f"json_build_object({', '.join(parts)})"


def _transport(type_: str) -> str:
    """The type a cursor's key is sent as and cast to: enums travel as text."""
    return type_ if type_ in ("text", "bigint", "smallint", "integer", "boolean") else f"text::{type_}"


def _page_params(link: ConnectionLink) -> Params:
    def params(args: Args, context: ReadContext) -> Mapping[str, object]:
        values = dict(link.params(args, context))
        longest = link.max_first or context.max_first
        values["first"] = page_size(args.get("first"), link.default_first, longest)
        after = args.get("after")
        if after is not None:
            keys = parse_cursor(str(after), link.keys)
            values.update({f"after_{n}": key for n, key in enumerate(keys)})
        return values

    return params
