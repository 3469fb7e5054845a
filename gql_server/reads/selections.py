"""Selections: collects the fields of an operation into a tree, merging fragments and applying @skip and @include.

Roles and arguments are validated and the price is added up on the way, so that nothing is compiled that is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from graphql import (
    ArgumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLIncludeDirective,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSkipDirective,
    InlineFragmentNode,
    ListValueNode,
    Node,
    ObjectFieldNode,
    ObjectValueNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    located_error,
)
from graphql.execution.values import VariableValues, get_argument_values, get_directive_values

from gql_server.db.statements import body
from gql_server.errors import Forbidden, GqlServerError, InvalidArgument, TooExpensive
from gql_server.reads.cursors import connection_params, page_size
from gql_server.reads.links import (
    Args,
    ConnectionLink,
    ExpressionLink,
    Link,
    Links,
    NodeLink,
    ParamsFunction,
    ReadContext,
    RowsLink,
)
from gql_server.reads.price import PageSize, PriceMeter, RowCount

ResponsePath: TypeAlias = tuple[str, ...]
"""The response keys from the root to a field, without the indexes of lists."""
FieldErrors: TypeAlias = Mapping[ResponsePath, Exception]
"""The fields that cannot be answered, each with its error."""

INTROSPECTION = frozenset({"__schema", "__type"})
_MAX_KEYS = 50
# Estimated lengths, in characters, of the SQL around what a link contributes itself.
_STATEMENT_LENGTH = 1_500
_ROWS_LENGTH, _CONNECTION_LENGTH, _COLUMN_LENGTH = 200, 500, 12


@dataclass(slots=True, eq=False)
class SelectedField:
    """A field of the response.

    children: the fields selected below it, by the object type that they belong to.
    variable_args: the names of the variables that `args` are, by the arguments' names; None if a variable is a part of
        one. An argument whose variable is not given is not among them: it then has its default.
    is_null: whether its value is null because it, or a non-null field below it, is refused.
    """

    key: str
    path: ResponsePath
    parent_type: GraphQLObjectType
    definition: GraphQLField | None
    nodes: list[FieldNode]
    link: Link | None
    parent: "SelectedField | None"
    args: Args = field(default_factory=dict)
    children: dict[str, list["SelectedField"]] = field(default_factory=dict)
    variable_args: Mapping[str, str] | None = None
    is_null: bool = False

    @property
    def name(self) -> str:
        return self.nodes[0].name.value

    @property
    def is_list(self) -> bool:
        return self.definition is not None and is_list_type(get_nullable_type(self.definition.type))

    @property
    def object_type(self) -> GraphQLObjectType | None:
        """The object type of the field's value; None for scalars, enums and interfaces."""
        named = get_named_type(self.definition.type) if self.definition else None
        return named if isinstance(named, GraphQLObjectType) else None

    def fields(self) -> list["SelectedField"]:
        """Return the fields below one whose value is of an object type."""
        assert self.object_type is not None
        return self.children[self.object_type.name]


def condition_of(link: RowsLink | ConnectionLink, args: Args) -> str:
    return link.condition if isinstance(link.condition, str) else link.condition(args)


def params_of(link: Link) -> Iterable[ParamsFunction]:
    """Return the params functions of a link: one for each type of an interface, else a single one."""
    match link:
        case NodeLink():
            return [branch.params for branch in link.by_type.values()]
        case ConnectionLink():
            return [connection_params(link)]
        case _:
            return [link.params]


class FieldSelector:
    """Selects the fields of one operation for one request. Raises TooExpensive.

    known_errors: fields that are already known to be unanswerable.
    errors: the errors of refused fields, with path and locations.
    depends_on_values: whether an error was caused by argument values, which may differ in the next request.
    data_is_null: whether an error makes the whole `data` null.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        links: Links,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: VariableValues,
        context: ReadContext,
        known_errors: FieldErrors,
    ) -> None:
        self._schema, self._links, self._fragments = schema, links, fragments
        self._variables, self._context, self._known_errors = variables, context, known_errors
        self.meter = PriceMeter(context.limits, context.viewer.role)
        self.meter.add_text((), _STATEMENT_LENGTH)
        self.errors: list[GraphQLError] = []
        self.depends_on_values = False
        self.data_is_null = False

    def query_fields(self, type_: GraphQLObjectType, selection_set: SelectionSetNode) -> list[SelectedField]:
        """Return the root fields of a query, without introspection."""
        try:
            fields = self.collect(type_, [selection_set])
        except (GraphQLError, InvalidArgument) as error:
            self.errors.append(located_error(error, None, None))
            self.depends_on_values = self.data_is_null = True
            return []
        return [
            self._field(type_, key, nodes, None, RowCount(), {})
            for key, nodes in fields.items()
            if nodes[0].name.value not in INTROSPECTION
        ]

    def payload_fields(
        self, type_: GraphQLObjectType, selection_set: SelectionSetNode, extra_args: Args
    ) -> list[SelectedField]:
        """Return the fields with links in a mutation's payloads, or in a subscription's events.

        extra_args: arguments that the document does not have, with placeholders for their values.
        """
        selected: list[SelectedField] = []
        for key, nodes in self.collect(type_, [selection_set]).items():
            link = self._links.get((type_.name, nodes[0].name.value))
            if link is not None:
                selected.append(self._field(type_, key, nodes, None, RowCount(), {}))
            elif nodes[0].name.value != "__typename":
                selected.extend(self._fields_of_payload(type_, key, nodes, extra_args))
        return selected

    def _fields_of_payload(
        self, type_: GraphQLObjectType, key: str, nodes: list[FieldNode], extra_args: Args
    ) -> Iterator[SelectedField]:
        mutation = SelectedField(key, (key,), type_, type_.fields[nodes[0].name.value], nodes, None, None)
        payload = mutation.object_type
        assert payload is not None
        for inner, inner_nodes in self.collect(payload, sub_selections(nodes)).items():
            if (payload.name, inner_nodes[0].name.value) in self._links:
                yield self._field(payload, inner, inner_nodes, mutation, RowCount(), extra_args)

    def collect(
        self, type_: GraphQLObjectType, selection_sets: Iterable[SelectionSetNode]
    ) -> dict[str, list[FieldNode]]:
        """Return the field nodes of an object by response key. Raises GraphQLError, InvalidArgument."""
        fields = collect_fields(
            type_, selection_sets, self._fragments, self._variables, self.meter.count_node
        )
        if len(fields) > _MAX_KEYS:
            raise InvalidArgument(f"An object of the query has more than {_MAX_KEYS} fields. Ask for fewer.")
        return fields

    def _object(
        self,
        type_: GraphQLObjectType,
        selection_sets: Iterable[SelectionSetNode],
        parent: SelectedField,
        rows: RowCount,
    ) -> None:
        fields = self.collect(type_, selection_sets)
        parent.children[type_.name] = [
            self._field(type_, key, nodes, parent, rows, {}) for key, nodes in fields.items()
        ]

    def _field(
        self,
        type_: GraphQLObjectType,
        key: str,
        nodes: list[FieldNode],
        parent: SelectedField | None,
        rows: RowCount,
        extra_args: Args,
    ) -> SelectedField:
        name = nodes[0].name.value
        path = (*parent.path, key) if parent else (key,)
        link = self._links.get((type_.name, name))
        selected = SelectedField(key, path, type_, type_.fields.get(name), nodes, link, parent)
        self.meter.add_text(path, len(key) + len(name) + _COLUMN_LENGTH)
        roles = link.roles if link is not None else None
        if roles is not None and self._context.viewer.role not in roles:
            allowed = " or ".join(sorted(roles))
            self._refuse(selected, Forbidden(f"`{name}` needs a token with the role {allowed}."))
            return selected
        try:
            self._select_below(selected, rows, extra_args)
        except TooExpensive:
            raise
        except (GqlServerError, GraphQLError) as error:
            self.depends_on_values = True
            self._refuse(selected, error)
        return selected

    def _select_below(self, selected: SelectedField, rows: RowCount, extra_args: Args) -> None:
        """Validate the arguments of a field, add its price, and select the fields below it."""
        if selected.definition is None:  # __typename
            return
        link = selected.link
        if link is None:
            if selected.object_type is not None:
                self._object(selected.object_type, sub_selections(selected.nodes), selected, rows)
            return
        if error := self._known_errors.get(selected.path):
            raise error
        node = selected.nodes[0]
        selected.args = {**get_argument_values(selected.definition, node, self._variables), **extra_args}
        selected.variable_args = _variable_args(selected.definition, node, self._variables)
        for params in params_of(link):
            params(selected.args, self._context)
        self._follow(selected, link, rows)

    def _follow(self, selected: SelectedField, link: Link, rows: RowCount) -> None:
        """Add the price of a link, and select the fields of its rows."""
        match link:
            case ExpressionLink():
                self.meter.add_text(selected.path, len(link.sql))
                self.meter.add_rows(selected.path, rows, link.row_cost)
            case NodeLink():
                for name, branch in link.branches(self._context.viewer.role).items():
                    object_type = self._schema.type_map[name]
                    assert isinstance(object_type, GraphQLObjectType)
                    self._follow_rows(selected, branch, object_type, rows)
            case ConnectionLink():
                self._follow_connection(selected, link, rows)
            case RowsLink():
                assert selected.object_type is not None
                self._follow_rows(selected, link, selected.object_type, rows)

    def _follow_rows(
        self, selected: SelectedField, link: RowsLink, object_type: GraphQLObjectType, rows: RowCount
    ) -> None:
        if link.table is not None:
            length = len(body(f"graph/{link.table}")) + len(condition_of(link, selected.args))
            self.meter.add_text(selected.path, length + len(link.order or "") + _ROWS_LENGTH)
            self.meter.add_scan(selected.path, selected.name, rows, link.scan_cost)
            if selected.is_list:
                rows = rows.times(link.max_rows_for(self._context.viewer.role))
            self.meter.add_rows(selected.path, rows, link.row_cost)
        self._object(object_type, sub_selections(selected.nodes), selected, rows)

    def _follow_connection(self, selected: SelectedField, link: ConnectionLink, rows: RowCount) -> None:
        length = len(body(f"graph/{link.table}")) + len(condition_of(link, selected.args))
        length += sum(map(len, (link.tables or {}).values()))
        self.meter.add_text(selected.path, length + _CONNECTION_LENGTH)
        scan_cost = link.scan_cost_for(self._context.viewer.role, selected.args)
        self.meter.add_scan(selected.path, selected.name, rows, scan_cost)
        maximum = link.max_first or self._context.max_first
        size = page_size(selected.args.get("first"), link.default_first, maximum)
        variable = _variable(selected.nodes[0], "first")
        if variable is None:
            rows = rows.times(size)
        else:
            self.meter.page_sizes.append(PageSize(variable, link.default_first, maximum))
            rows = rows.times_page(size, len(self.meter.page_sizes) - 1)
        self.meter.add_rows(selected.path, rows, link.row_cost)
        assert selected.object_type is not None
        self._object(selected.object_type, sub_selections(selected.nodes), selected, rows)

    def _refuse(self, selected: SelectedField, error: GqlServerError | GraphQLError) -> None:
        """Record the error of a field, and make the field that `nullable_ancestor` returns null."""
        self.errors.append(located_error(error, selected.nodes, selected.path))
        ancestor = nullable_ancestor(selected)
        if ancestor is None:
            self.data_is_null = True
        else:
            ancestor.is_null = True


def nullable_ancestor(selected: SelectedField) -> SelectedField | None:
    """Return the field that becomes null when a field is refused; None if that is the whole `data`.

    It is the nearest nullable field, or the refused field itself, that is not inside a list. The items of a list share
    one compiled expression, and one error is reported for all of them, so a list becomes null as a whole.
    """
    chain = [selected]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    nullable = None
    for ancestor in reversed(chain):
        assert ancestor.definition is not None
        if not is_non_null_type(ancestor.definition.type):
            nullable = ancestor
        if ancestor.is_list:
            break
    return nullable


def collect_fields(
    type_: GraphQLObjectType,
    selection_sets: Iterable[SelectionSetNode],
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: VariableValues,
    count_node: Callable[[], None] = lambda: None,
) -> dict[str, list[FieldNode]]:
    """Return the field nodes of an object by response key, in the order that the GraphQL specification requires.

    `count_node` is called for every visited node. Raises GraphQLError for a directive whose `if` is null.
    """
    fields: dict[str, list[FieldNode]] = {}
    seen: set[str] = set()

    def visit(selection_set: SelectionSetNode) -> None:
        for node in selection_set.selections:
            count_node()
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
    """Return the selection sets of all nodes with the same response key; GraphQL merges them."""
    return [node.selection_set for node in nodes if node.selection_set]


def _variable_args(
    definition: GraphQLField, node: FieldNode, variables: VariableValues
) -> Mapping[str, str] | None:
    """Return the names of the variables that are a field's arguments; None if a variable is a part of an argument."""
    found: dict[str, str] = {}
    for given in node.arguments or ():
        if not isinstance(given.value, VariableNode):
            if _has_variable([given]):
                return None
        elif given.value.name.value in variables.coerced:
            name = given.name.value
            found[definition.args[name].out_name or name] = given.value.name.value
    return found


def _has_variable(nodes: Iterable[Node] | None) -> bool:
    """Tell whether a variable occurs in arguments or values."""
    waiting = list(nodes or ())
    while waiting:
        node = waiting.pop()
        if isinstance(node, VariableNode):
            return True
        match node:
            case ArgumentNode() | ObjectFieldNode():
                waiting.append(node.value)
            case ListValueNode():
                waiting.extend(node.values)
            case ObjectValueNode():
                waiting.extend(node.fields)
    return False


def _variable(node: FieldNode, argument: str) -> str | None:
    """Return the name of the variable that an argument is given by; None if it is a literal or missing."""
    for given in node.arguments or ():
        if given.name.value == argument and isinstance(given.value, VariableNode):
            return str(given.value.name.value)
    return None


def _applies(type_: GraphQLObjectType, condition: str) -> bool:
    """Tell whether a fragment with a type condition applies to an object type."""
    return condition == type_.name or any(interface.name == condition for interface in type_.interfaces)


def _included(node: Any, variables: VariableValues) -> bool:
    """Tell whether @skip and @include let a node be part of the response."""
    if not node.directives:
        return True
    skip = get_directive_values(GraphQLSkipDirective, node, variables)
    include = get_directive_values(GraphQLIncludeDirective, node, variables)
    return not (skip and skip["if"]) and not (include and not include["if"])
