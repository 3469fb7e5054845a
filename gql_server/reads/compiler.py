"""The compiler: the fields of an object become one SQL expression that gives their JSON.

Objects are `json_build_object` over a row, lists are `json_agg` over a correlated subquery; every row comes from a
file of `sql/graph`, which says who may see it. The text depends on the document, the role and on which arguments
are given, never on values: those are parameters.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

from graphql import FieldNode, GraphQLField
from graphql.execution.values import VariableValues, get_argument_values

from gql_server.db.statements import body
from gql_server.domain.sql import parameters, slots
from gql_server.domain.viewer import Role
from gql_server.reads.cursors import cursor_sql, page_params
from gql_server.reads.links import (
    Args,
    ConnectionLink,
    Expression,
    Link,
    NodeLink,
    Params,
    Slots,
)
from gql_server.reads.selections import Path, Selected, condition_of

AMBIENT = frozenset({"district_id", "today", "viewer_role", "viewer_person_id", "viewer_source_id"})
"""Parameters that every graph file and condition may use."""

TOO_LONG = "too_long"
"""Begins the text that a list with too many rows makes PostgreSQL fail with: then its place in `Compiled.lists`,
a count, and after a blank the id of the row that the list hangs on, where that has one."""


@dataclass(frozen=True, slots=True)
class Value:
    """Where the parameters of one field come from: its arguments, and the function that makes values of them."""

    prefix: str
    path: Path
    field: GraphQLField
    node: FieldNode
    params: Params

    def args(self, variables: VariableValues, extra: Args) -> Args:
        return {**get_argument_values(self.field, self.node, variables), **extra}


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the text for SQL that the request makes. `alias` is the row that `{parent}` stands for."""

    prefix: str
    alias: str
    value: Value
    slots: Slots


@dataclass(frozen=True, slots=True)
class BoundedList:
    """A list that has at most so many rows, or is refused."""

    path: Path
    name: str
    most: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """One SELECT of one row, and what to ask of a request before it can run.

    The row: `answer` (JSON; null where it is larger than the parameter `answer_bytes`), `bytes` (its size; null for
    no answer), and `made_for`: the role, the statement, the district and the request that it was made for.
    """

    text: str
    digest: str
    values: tuple[Value, ...]
    slots: tuple[Slot, ...]
    lists: tuple[BoundedList, ...]

    def stamp(self, role: Role, district_id: int, request: int) -> str:
        """Return what `made_for` must be."""
        return f"{role.value}:{self.digest}:{district_id}:{request}"


@cache
def snake(name: str) -> str:
    """Return the column of a field: `firstName` is `first_name`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def graph_rows(table: str) -> str:
    """Return the SELECT of a graph file: the rows that the viewer may see, for a condition that looks at them."""
    return body(f"graph/{table}")


class Compiler:
    """Compiles what was selected for one role, into one statement."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._aliases = 0
        self._values: list[Value] = []
        self._slots: list[Slot] = []
        self._lists: list[BoundedList] = []

    def operation(self, fields: Iterable[Selected]) -> Compiled:
        """Return the statement for a whole query: `{"data": {...}}`."""
        return self._finish(f"json_build_object('data', {self.object(fields, None)})")

    def field(self, selected: Selected) -> Compiled:
        """Return the statement for one field alone."""
        return self._finish(f"to_json({self._field(selected, None)})")

    def _finish(self, expression: str) -> Compiled:
        digest = blake2b(f"{self._role.value} {expression}".encode(), digest_size=8).hexdigest()
        size = "pg_column_size(made.answer)"
        # `offset 0` keeps the answer from being computed for each of its uses.
        text = (
            f"{body('read/viewer')}\n"
            f"select case when {size} <= :answer_bytes::bigint then made.answer end as answer, {size} as bytes,\n"
            f"  '{self._role.value}:{digest}:' || :district_id::bigint || ':' || :request::bigint as made_for\n"
            f"from (select {expression} as answer offset 0) as made"
        )
        text = re.sub(r":viewer_role\b", f"'{self._role.value}'", text)
        text = re.sub(r":viewer_person_id\b", "(select person_id from viewer)", text)
        return Compiled(text, digest, tuple(self._values), tuple(self._slots), tuple(self._lists))

    def object(self, fields: Iterable[Selected], row: str | None) -> str:
        """Return the expression for an object's fields, over the row of an alias."""
        return _build((each.key, self._field(each, row)) for each in fields)

    def _field(self, selected: Selected, row: str | None) -> str:
        if selected.null:
            return "null"
        if selected.definition is None:
            return f"'{selected.type_.name}'::text"
        match selected.link:
            case None:
                return f'{row}."{snake(selected.name)}"'
            case NodeLink() as link:
                branches = (
                    self._link(selected, branch, selected.children[name], None)
                    for name, branch in link.branches(self._role).items()
                )
                return f"coalesce({', '.join(branches)})"
            case ConnectionLink() as link:
                return self._connection(selected, row, link)
            case Expression() as link:
                value = self._value(selected, link.params)
                return self._own(link.sql, value, row or "", row or "", link.slots)
            case Link() as link:
                return self._link(selected, link, selected.fields(), row)

    def _link(self, selected: Selected, link: Link, fields: list[Selected], row: str | None) -> str:
        if link.table is None:
            return self.object(fields, row)
        child = self._alias()
        value = self._value(selected, link.params)
        source = self._own(body(f"graph/{link.table}"), value, child, row or "", link.slots)
        where = self._own(condition_of(link, selected.args), value, child, row or "", None)
        rows = f"(\n{source}\n) as {child} where {where}"
        json = self.object(fields, child)
        if not selected.is_list:
            return f"(select {json} from {rows})"
        order = f" order by {(link.order or '').replace('{child}', child)}" if link.order else ""
        listed = f"json_agg({json}{order})"
        if not link.none_is_null:
            listed = f"coalesce({listed}, '[]')"
        if link.fixed:
            return f"(select {listed} from {rows})"
        most = link.bound(self._role)
        self._lists.append(BoundedList(selected.path, selected.name, most))
        # A count is known only when the statement runs: so it is then that this fails, and with these words.
        whose = f" || ' ' || {row}.\"id\"" if row and "id" in selected.type_.fields else ""
        refusal = f"to_json(('{TOO_LONG}:{len(self._lists) - 1}:' || count(*){whose})::integer)"
        return (
            f"(select case when count(*) > {most} then {refusal} else {listed} end"
            f" from (select {child}.* from {rows} limit {most + 1}) as {child})"
        )

    def _connection(self, selected: Selected, row: str | None, link: ConnectionLink) -> str:
        """Return the expression for one page: one row more than asked for is read, to know if there is a next one."""
        inner, page = self._alias(), self._alias()
        value = self._value(selected, page_params(link))
        has_after = selected.args.get("after") is not None
        source = self._own(body(f"graph/{link.table}"), value, inner, row or "", None)
        where = self._own(condition_of(link, selected.args), value, inner, row or "", None)
        if has_after:
            keys = ", ".join(f'{inner}."{key.column}"' for key in link.keys)
            after = ", ".join(
                f":{value.prefix}__after_{n}::{_transport(key.type)}" for n, key in enumerate(link.keys)
            )
            where += f" and ({keys}) {'<' if link.descending else '>'} ({after})"
        direction = " desc" if link.descending else ""
        order = ", ".join(f'{inner}."{key.column}"{direction}' for key in link.keys)
        size = f":{value.prefix}__first::bigint"
        json = _Page(self, page, link, size, has_after).json(selected.fields())
        return (
            f"(select {json} from (select {inner}.*, row_number() over (order by {order}) as page_position"
            f" from (\n{source}\n) as {inner} where {where} order by {order} limit {size} + 1) as {page} having true)"
        )

    def _alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}"

    def _value(self, selected: Selected, params: Params) -> Value:
        assert selected.definition is not None
        prefix = f"f{len(self._values) + 1}"
        value = Value(prefix, selected.path, selected.definition, selected.nodes[0], params)
        self._values.append(value)
        return value

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


@dataclass(frozen=True, slots=True)
class _Page:
    """One page of a connection: rows under the alias `page`, one more than `size` where there is a next one."""

    compiler: Compiler
    page: str
    link: ConnectionLink
    size: str
    has_after: bool

    def json(self, fields: Iterable[Selected]) -> str:
        return _build((each.key, self._part(each)) for each in fields)

    def _part(self, selected: Selected) -> str:
        on_page = f"filter (where {self.page}.page_position <= {self.size})"
        cursor = cursor_sql(self.page, self.link.keys)
        match selected.name:
            case "__typename":
                return f"'{selected.type_.name}'::text"
            case "edges":
                edge = self.json(selected.fields())
                return f"coalesce(json_agg({edge} order by {self.page}.page_position) {on_page}, '[]')"
            case "pageInfo":
                return self.json(selected.fields())
            case "node":
                return self.compiler.object(selected.fields(), self.page)
            case "cursor":
                return cursor
            case "hasNextPage":
                return f"count(*) > {self.size}"
            case "hasPreviousPage":
                return str(self.has_after).lower()
            case "startCursor":
                return f"(array_agg({cursor} order by {self.page}.page_position) {on_page})[1]"
            case _:  # endCursor: the schema has no other
                return f"(array_agg({cursor} order by {self.page}.page_position desc) {on_page})[1]"


def _build(pairs: Iterable[tuple[str, str]]) -> str:
    return "json_build_object(" + ", ".join(f"'{key}', {expression}" for key, expression in pairs) + ")"


def _transport(type_: str) -> str:
    """The type a cursor's key is sent as and cast to: enums travel as text."""
    return type_ if type_ in ("text", "bigint", "smallint", "integer", "boolean") else f"text::{type_}"
