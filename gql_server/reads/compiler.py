"""The compiler: turns the selected fields of an operation into one SQL statement that returns the JSON response.

An object becomes a text with the columns of a row in it, and a list becomes `string_agg` over a correlated subquery:
see json_text.py. All rows come from the files of `sql/graph`, which decide what each viewer may see. The text of a
statement depends on the document, the role, which arguments are given, and the kind of a node's id. It never contains
values: those are parameters.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

from graphql import FieldNode, GraphQLField
from graphql.execution.values import VariableValues, get_argument_values

from gql_server.db.statements import body
from gql_server.domain.sql import Numbered, number, parameters, slots
from gql_server.domain.viewer import Role
from gql_server.reads.cursors import connection_params, cursor_sql
from gql_server.reads.json_text import (
    JSON_NULL,
    json_array,
    json_name,
    json_object,
    json_plain,
    json_value,
    nullable_json,
)
from gql_server.reads.links import (
    PORTAL_ROLES,
    Args,
    ConnectionLink,
    ExpressionLink,
    NodeLink,
    ParamsFunction,
    RowsLink,
    SlotsFunction,
    no_params,
)
from gql_server.reads.selections import ResponsePath, SelectedField, condition_of

SHARED_PARAMETERS = frozenset(
    {"district_id", "today", "viewer_role", "viewer_sees_all", "viewer_person_id", "viewer_source_id"}
)
"""Parameters that every graph file and condition may use."""

TOO_LONG = "too_long"
"""Starts the text that makes PostgreSQL fail when a list has too many rows.

It is followed by the index of the list in `CompiledStatement.lists`, the number of rows, and, if the parent's row has
an id, a blank and that id.
"""


_MATERIALIZED_VIEWER = re.compile(r"\b(viewer\w*) as materialized\b")


@dataclass(frozen=True, slots=True)
class FieldParams:
    """The parameters of one field: their prefix in the statement, and how their values are made.

    fixed_args: the field's arguments that are the same for every request.
    variable_args: the names of the variables that its other arguments are; None if a variable is a part of one.
    """

    prefix: str
    path: ResponsePath
    field: GraphQLField
    node: FieldNode
    params: ParamsFunction
    fixed_args: Args
    variable_args: Mapping[str, str] | None

    def args(self, variables: VariableValues, extra_args: Args) -> Args:
        """Return the field's arguments in a request. Raises GraphQLError."""
        if self.variable_args is None:
            return {**get_argument_values(self.field, self.node, variables), **extra_args}
        if not self.variable_args and not extra_args:
            return self.fixed_args
        given = {name: variables.coerced[variable] for name, variable in self.variable_args.items()}
        return {**self.fixed_args, **given, **extra_args}


@dataclass(frozen=True, slots=True)
class FieldSlots:
    """The slots of one field: where the statement has room for SQL that is made anew for each request.

    parent: the alias of the row that `{parent}` stands for in that SQL.
    rows: the field whose rows have this field; None for a field of the root.
    """

    prefix: str
    parent: str
    field: FieldParams
    rows: FieldParams | None
    slots: SlotsFunction

    def args(self, variables: VariableValues, extra_args: Args) -> Args:
        """Return the field's arguments in a request, and those by which its rows are selected. Raises GraphQLError."""
        of_rows = self.rows.args(variables, extra_args) if self.rows is not None else {}
        return {**of_rows, **self.field.args(variables, extra_args)}


@dataclass(frozen=True, slots=True)
class LimitedList:
    """A list that is an error if it has more than `max_rows` rows."""

    path: ResponsePath
    name: str
    max_rows: int


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A SELECT of one row, and what a request must supply to run it.

    The columns of the row:
    answer: the JSON; null if it is null, or larger than the parameter `answer_bytes`.
    bytes: the size of the JSON; null if the JSON is null.
    request_tag: identifies the role, statement, district and request that the row was made for.
    """

    text: str
    digest: str
    params: tuple[FieldParams, ...]
    slots: tuple[FieldSlots, ...]
    lists: tuple[LimitedList, ...]
    numbered: Numbered | None
    """The text with `$1`, `$2`, ... and the names of its parameters; None where slots must be filled first."""

    def request_tag(self, role: Role, district_id: int, request: int) -> str:
        """Return the value that the column `request_tag` must have for a request."""
        return f"{role.value}:{self.digest}:{district_id}:{request}"


@cache
def column_name(field_name: str) -> str:
    """Return the column of a field: `firstName` becomes `first_name`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field_name).lower()


def graph_rows(table: str, tables: Mapping[str, str] | None = None) -> str:
    """Return the SELECT of a graph file, which gives the rows that the viewer may see.

    `tables` names the table for each slot of a file that can be used with several tables.
    """
    text = body(f"graph/{table}")
    for slot, name in (tables or {}).items():
        text = text.replace(f"{{{slot}}}", name)
    return text


def _viewer_sql(role: Role) -> str:
    """Return the beginning of a role's statements.

    No row depends on who the viewer is for a role that sees all. PostgreSQL leaves out what no row depends on, but not
    a materialized CTE.
    """
    text = body("read/viewer")
    return text if role in PORTAL_ROLES else _MATERIALIZED_VIEWER.sub(r"\1 as not materialized", text)


class Compiler:
    """Compiles one statement for one role.

    max_first: the largest page that the role may ask for.
    """

    def __init__(self, role: Role, max_first: int) -> None:
        self._role, self._max_first = role, max_first
        self._aliases = 0
        self._params: list[FieldParams] = []
        self._slots: list[FieldSlots] = []
        self._lists: list[LimitedList] = []

    def compile_query(self, fields: Iterable[SelectedField]) -> CompiledStatement:
        """Return the statement for a whole query, whose JSON is `{"data": {...}}`."""
        return self._statement(json_object([("data", self.object(fields, None))]))

    def compile_field(self, selected: SelectedField) -> CompiledStatement:
        """Return the statement for a single field, whose JSON is the value of the field."""
        return self._statement(f"nullif({self._field(selected, None)}, 'null')")

    def _statement(self, expression: str) -> CompiledStatement:
        digest = blake2b(f"{self._role.value} {expression}".encode(), digest_size=8).hexdigest()
        size = "pg_column_size(result.answer)"
        # `offset 0` prevents PostgreSQL from computing the JSON once for each of its uses.
        text = (
            f"{_viewer_sql(self._role)}\n"
            f"select case when {size} <= :answer_bytes::bigint then convert_to(result.answer, 'UTF8') end as answer,\n"
            f"  {size} as bytes,\n"
            f"  '{self._role.value}:{digest}:' || :district_id::bigint || ':' || :request::bigint as request_tag\n"
            f"from (select {expression} as answer offset 0) as result"
        )
        text = re.sub(r":viewer_role\b", f"'{self._role.value}'", text)
        text = re.sub(r":viewer_sees_all\b", "false" if self._role in PORTAL_ROLES else "true", text)
        text = re.sub(r":viewer_person_id\b", "(select person_id from viewer)", text)
        return CompiledStatement(
            text,
            digest,
            tuple(params for params in self._params if params.params is not no_params),
            tuple(self._slots),
            tuple(self._lists),
            None if self._slots else number(text),
        )

    def object(self, fields: Iterable[SelectedField], row: str | None) -> str:
        """Return the expression for the fields of an object. `row` is the alias of its row."""
        return json_object((field.key, self._field(field, row)) for field in fields)

    def _field(self, selected: SelectedField, row: str | None) -> str:
        """Return the expression for the JSON of a field, as a text that is never null."""
        if selected.is_null:
            return JSON_NULL
        if selected.definition is None:
            return json_name(selected.parent_type.name)
        match selected.link:
            case None:
                return json_value(f'{row}."{column_name(selected.name)}"', selected.definition.type)
            case NodeLink() as link:
                branches = [
                    self._rows(selected, branch, selected.children[name], None)
                    for name, branch in link.searched(self._role, selected.args).items()
                ]
                return nullable_json(*branches)
            case ConnectionLink() as link:
                return self._connection(selected, row, link)
            case ExpressionLink() as link:
                params = self._add_params(selected, link.params)
                rows = self._params_of_rows(selected) if link.slots else None
                sql = self._adapt(link.sql, params, row or "", row or "", link.slots, rows)
                return json_value(f"({sql})", selected.definition.type)
            case RowsLink() as link:
                return nullable_json(self._rows(selected, link, selected.fields(), row))

    def _rows(
        self, selected: SelectedField, link: RowsLink, fields: list[SelectedField], row: str | None
    ) -> str:
        """Return the expression for the JSON of the row, or the list of rows, of a link; null if there is none."""
        if link.table is None:
            return self.object(fields, row)
        child = self._alias()
        params = self._add_params(selected, link.params)
        source = self._adapt(graph_rows(link.table, link.tables), params, child, row or "", link.slots)
        where = self._adapt(condition_of(link, selected.args), params, child, row or "", None)
        rows = f"(\n{source}\n) as {child} where {where}"
        json = self.object(fields, child)
        if not selected.is_list:
            return f"(select {json} from {rows})"
        order = f" order by {(link.order or '').replace('{child}', child)}" if link.order else ""
        json_list = json_array(json, order, null_when_empty=link.null_when_empty)
        if link.naturally_bounded:
            return f"(select {json_list} from {rows})"
        return self._limited_list(selected, json_list, child, rows, row, link.max_rows_for(self._role))

    def _limited_list(
        self, selected: SelectedField, json_list: str, child: str, rows: str, row: str | None, max_rows: int
    ) -> str:
        """Return the expression for a list that makes the statement fail if it has more than `max_rows` rows.

        The number of rows is known only while the statement runs, so the error is raised there, by a cast that fails
        and names the list in its message.
        """
        self._lists.append(LimitedList(selected.path, selected.name, max_rows))
        parent_id = f" || ' ' || {row}.\"id\"" if row and "id" in selected.parent_type.fields else ""
        error = f"('{TOO_LONG}:{len(self._lists) - 1}:' || count(*){parent_id})::integer::text"
        return (
            f"(select case when count(*) > {max_rows} then {error} else {json_list} end"
            f" from (select {child}.* from {rows} limit {max_rows + 1}) as {child})"
        )

    def _connection(self, selected: SelectedField, row: str | None, link: ConnectionLink) -> str:
        """Return the expression for one page. It reads one row more than asked for, to know if a next page exists.

        The rows are limited twice. The limit of the largest page is a number, from which PostgreSQL sees that a page is
        short: of the parameter alone it would expect a tenth of the table, and plan each call anew.
        """
        inner, page = self._alias(), self._alias()
        params = self._add_params(selected, connection_params(link))
        has_after = selected.args.get("after") is not None
        source = self._adapt(graph_rows(link.table, link.tables), params, inner, row or "", None)
        where = self._adapt(condition_of(link, selected.args), params, inner, row or "", None)
        if has_after:
            keys = ", ".join(f'{inner}."{key.column}"' for key in link.sort_keys)
            after = ", ".join(
                f":{params.prefix}__after_{n}::{_parameter_type(key.type)}"
                for n, key in enumerate(link.sort_keys)
            )
            where += f" and ({keys}) {'<' if link.descending else '>'} ({after})"
        most = (link.max_first or self._max_first) + 1
        size = f":{params.prefix}__first::bigint"
        direction = " desc" if link.descending else ""
        order = ", ".join(f'{inner}."{key.column}"{direction}' for key in link.sort_keys)
        json = _ConnectionPage(self, page, link, size, has_after).json(selected.fields())
        rows = f"select {inner}.* from (\n{source}\n) as {inner} where {where} order by {order} limit {most}"
        return (
            f"(select {json} from (select {inner}.*, row_number() over place as page_position,"
            f" lead(false, 1, true) over place as page_last"
            f" from (select {inner}.* from (\n{rows}\n) as {inner} limit {size} + 1) as {inner}"
            f" window place as (order by {order})) as {page} having true)"
        )

    def _alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}"

    def _add_params(self, selected: SelectedField, function: ParamsFunction) -> FieldParams:
        assert selected.definition is not None
        prefix = f"f{len(self._params) + 1}"
        node = selected.nodes[0]
        from_variables = selected.variable_args or {}
        fixed_args = {name: value for name, value in selected.args.items() if name not in from_variables}
        params = FieldParams(
            prefix, selected.path, selected.definition, node, function, fixed_args, selected.variable_args
        )
        self._params.append(params)
        return params

    def _params_of_rows(self, selected: SelectedField) -> FieldParams | None:
        """Return the parameters of the nearest field above whose link selects rows."""
        paths = [params.path for params in self._params]
        above = selected.parent
        while above is not None:
            if above.path in paths:
                return self._params[paths.index(above.path)]
            above = above.parent
        return None

    def _adapt(
        self,
        text: str,
        params: FieldParams,
        child: str,
        parent: str,
        fill: SlotsFunction | None,
        rows: FieldParams | None = None,
    ) -> str:
        """Return a link's SQL for its place in the statement.

        `{child}` and `{parent}` become aliases. The names of parameters and slots get the prefix of the field, so that
        fields do not share them.
        """
        text = text.replace("{child}", child).replace("{parent}", parent)
        for name in parameters(text):
            if name not in SHARED_PARAMETERS:
                text = re.sub(rf"(?<!:):{name}\b", f":{params.prefix}__{name}", text)
        if names := slots(text):
            assert fill is not None, f"{names} are not filled"
            for name in names:
                text = text.replace(f"{{{name}}}", f"{{{params.prefix}__{name}}}")
            self._slots.append(FieldSlots(params.prefix, parent, params, rows, fill))
        return text


@dataclass(frozen=True, slots=True)
class _ConnectionPage:
    """The JSON of one page of a connection.

    page: the alias of its rows. There is one row more than `size` if a next page exists.
    """

    compiler: Compiler
    page: str
    link: ConnectionLink
    size: str
    has_after: bool

    def json(self, fields: Iterable[SelectedField]) -> str:
        return json_object((field.key, self._field(field)) for field in fields)

    def _field(self, selected: SelectedField) -> str:
        """Return the expression for the JSON of a field, as a text that is never null."""
        place = f"{self.page}.page_position"
        cursor = cursor_sql(self.page, self.link.sort_keys)
        match selected.name:
            case "__typename":
                return json_name(selected.parent_type.name)
            case "edges":
                edge = self.json(selected.fields())
                return json_array(edge, f" order by {place}", f"{place} <= {self.size}")
            case "pageInfo":
                return self.json(selected.fields())
            case "node":
                return self.compiler.object(selected.fields(), self.page)
            case "cursor":
                return json_plain(cursor)
            case "hasNextPage":
                return f"(count(*) > {self.size})::text"
            case "hasPreviousPage":
                return f"'{str(self.has_after).lower()}'"
            case "startCursor":
                return json_plain(f"max({cursor}) filter (where {place} = 1)")
            case _:  # endCursor: the types of connections have no other field
                is_last = f"{place} = {self.size} or {place} < {self.size} and {self.page}.page_last"
                return json_plain(f"max({cursor}) filter (where {is_last})")


def _parameter_type(key_type: str) -> str:
    """Return the casts of a cursor's value to the type of its sort key. Values of enums are sent as text."""
    return (
        key_type if key_type in ("text", "bigint", "smallint", "integer", "boolean") else f"text::{key_type}"
    )
