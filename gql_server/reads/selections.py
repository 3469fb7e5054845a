"""Reads selection sets: which fields an object answers, merged over fragments and directives, as a tree.

On the way roles and arguments are checked and the price is summed, so that nothing is compiled of what is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from graphql import (
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
from gql_server.reads.cursors import page_params, page_size
from gql_server.reads.links import (
    AnyLink,
    Args,
    ConnectionLink,
    Expression,
    Link,
    Links,
    NodeLink,
    Params,
    ReadContext,
)
from gql_server.reads.price import Meter, PageSize, Rows

Path: TypeAlias = tuple[str, ...]
"""Response keys from the root, without positions in lists."""
Refused: TypeAlias = Mapping[Path, Exception]
"""Fields that cannot be answered, and why."""

INTROSPECTION = frozenset({"__schema", "__type"})
_MAX_KEYS = 50  # PostgreSQL functions take 100 arguments
_HEAD = 1_500  # characters of the statement beside its fields
_AROUND_LINK, _AROUND_CONNECTION, _AROUND_COLUMN = 200, 500, 12


@dataclass(slots=True, eq=False)
class Selected:
    """A field of the answer. `children`: the fields below it, by the object type they are of."""

    key: str
    path: Path
    type_: GraphQLObjectType
    definition: GraphQLField | None
    nodes: list[FieldNode]
    link: AnyLink | None
    parent: "Selected | None"
    args: Args = field(default_factory=dict)
    children: dict[str, list["Selected"]] = field(default_factory=dict)
    null: bool = False

    @property
    def name(self) -> str:
        return self.nodes[0].name.value

    @property
    def is_list(self) -> bool:
        return self.definition is not None and is_list_type(get_nullable_type(self.definition.type))

    @property
    def target(self) -> GraphQLObjectType | None:
        """The object type of the field's value, if it is one."""
        named = get_named_type(self.definition.type) if self.definition else None
        return named if isinstance(named, GraphQLObjectType) else None

    def fields(self) -> list["Selected"]:
        """Return the fields below one whose value is of an object type."""
        assert self.target is not None
        return self.children[self.target.name]


def condition_of(link: Link | ConnectionLink, args: Args) -> str:
    return link.on if isinstance(link.on, str) else link.on(args)


def params_of(link: AnyLink) -> Iterable[Params]:
    """Return the functions that make a field's parameters: one, but for interfaces."""
    match link:
        case NodeLink():
            return [branch.params for branch in link.by_type.values()]
        case ConnectionLink():
            return [page_params(link)]
        case _:
            return [link.params]


class Selector:
    """Selects the fields of one operation for one request. Raises TooExpensive.

    refused: fields that are known to be unanswerable. errors: what was refused, with path and locations.
    variable: whether something was refused for its arguments, which may differ in the next request.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        links: Links,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: VariableValues,
        context: ReadContext,
        refused: Refused,
    ) -> None:
        self._schema, self._links, self._fragments = schema, links, fragments
        self._variables, self._context, self._refused = variables, context, refused
        self.meter = Meter(context.limits, context.viewer.role)
        self.meter.text((), _HEAD)
        self.errors: list[GraphQLError] = []
        self.variable = False
        self.nothing = False

    def query(self, type_: GraphQLObjectType, selection_set: SelectionSetNode) -> list[Selected]:
        """Return the fields of a query, without introspection. `nothing` tells that the whole answer is null."""
        try:
            fields = self.collect(type_, [selection_set])
        except (GraphQLError, InvalidArgument) as error:
            self.errors.append(located_error(error, None, None))
            self.variable = self.nothing = True
            return []
        return [
            self._field(type_, key, nodes, None, Rows(), {})
            for key, nodes in fields.items()
            if nodes[0].name.value not in INTROSPECTION
        ]

    def parts(self, type_: GraphQLObjectType, selection_set: SelectionSetNode, extra: Args) -> list[Selected]:
        """Return the linked fields of a mutation's payloads, or of a subscription's events.

        extra: arguments beside those in the document; their values are not known yet.
        """
        parts: list[Selected] = []
        for key, nodes in self.collect(type_, [selection_set]).items():
            link = self._links.get((type_.name, nodes[0].name.value))
            if link is not None:
                parts.append(self._field(type_, key, nodes, None, Rows(), {}))
            elif nodes[0].name.value != "__typename":
                parts.extend(self._payload(type_, key, nodes, extra))
        return parts

    def _payload(
        self, type_: GraphQLObjectType, key: str, nodes: list[FieldNode], extra: Args
    ) -> Iterator[Selected]:
        mutation = Selected(key, (key,), type_, type_.fields[nodes[0].name.value], nodes, None, None)
        payload = mutation.target
        assert payload is not None
        for inner, inner_nodes in self.collect(payload, sub_selections(nodes)).items():
            if (payload.name, inner_nodes[0].name.value) in self._links:
                yield self._field(payload, inner, inner_nodes, mutation, Rows(), extra)

    def collect(
        self, type_: GraphQLObjectType, selection_sets: Iterable[SelectionSetNode]
    ) -> dict[str, list[FieldNode]]:
        """Return the field nodes of an object by response key. Raises GraphQLError, InvalidArgument."""
        fields = collect_fields(type_, selection_sets, self._fragments, self._variables, self.meter.node)
        if len(fields) > _MAX_KEYS:
            raise InvalidArgument(f"An object of the query has more than {_MAX_KEYS} fields. Ask for fewer.")
        return fields

    def _object(
        self,
        type_: GraphQLObjectType,
        selection_sets: Iterable[SelectionSetNode],
        parent: Selected,
        rows: Rows,
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
        parent: Selected | None,
        rows: Rows,
        extra: Args,
    ) -> Selected:
        name = nodes[0].name.value
        path = (*parent.path, key) if parent else (key,)
        link = self._links.get((type_.name, name))
        selected = Selected(key, path, type_, type_.fields.get(name), nodes, link, parent)
        self.meter.text(path, len(key) + len(name) + _AROUND_COLUMN)
        roles = link.roles if link is not None else None
        if roles is not None and self._context.viewer.role not in roles:
            allowed = " or ".join(sorted(roles))
            self._refuse(selected, Forbidden(f"`{name}` needs a token with the role {allowed}."))
            return selected
        try:
            self._fill(selected, rows, extra)
        except TooExpensive:
            raise
        except (GqlServerError, GraphQLError) as error:
            self.variable = True
            self._refuse(selected, error)
        return selected

    def _fill(self, selected: Selected, rows: Rows, extra: Args) -> None:
        """Check a field's arguments, add its price, and select what is below it."""
        if selected.definition is None:  # __typename
            return
        link = selected.link
        if link is None:
            if selected.target is not None:
                self._object(selected.target, sub_selections(selected.nodes), selected, rows)
            return
        if error := self._refused.get(selected.path):
            raise error
        node = selected.nodes[0]
        selected.args = {**get_argument_values(selected.definition, node, self._variables), **extra}
        for params in params_of(link):
            params(selected.args, self._context)
        self._below(selected, link, rows)

    def _below(self, selected: Selected, link: AnyLink, rows: Rows) -> None:
        match link:
            case Expression():
                self.meter.text(selected.path, len(link.sql))
                self.meter.rows(selected.path, rows, link.each)
            case NodeLink():
                for name, branch in link.branches(self._context.viewer.role).items():
                    target = self._schema.type_map[name]
                    assert isinstance(target, GraphQLObjectType)
                    self._link(selected, branch, target, rows)
            case ConnectionLink():
                self._connection(selected, link, rows)
            case Link():
                assert selected.target is not None
                self._link(selected, link, selected.target, rows)

    def _link(self, selected: Selected, link: Link, target: GraphQLObjectType, rows: Rows) -> None:
        if link.table is not None:
            length = len(body(f"graph/{link.table}")) + len(condition_of(link, selected.args))
            self.meter.text(selected.path, length + len(link.order or "") + _AROUND_LINK)
            self.meter.search(selected.path, selected.name, rows, link.scan)
            if selected.is_list:
                rows = rows.times(link.bound(self._context.viewer.role))
            self.meter.rows(selected.path, rows, link.each)
        self._object(target, sub_selections(selected.nodes), selected, rows)

    def _connection(self, selected: Selected, link: ConnectionLink, rows: Rows) -> None:
        length = len(body(f"graph/{link.table}")) + len(condition_of(link, selected.args))
        self.meter.text(selected.path, length + _AROUND_CONNECTION)
        scan = link.search(self._context.viewer.role, selected.args)
        self.meter.search(selected.path, selected.name, rows, scan)
        longest = link.max_first or self._context.max_first
        size = page_size(selected.args.get("first"), link.default_first, longest)
        variable = _variable(selected.nodes[0], "first")
        if variable is None:
            rows = rows.times(size)
        else:
            self.meter.sizes.append(PageSize(variable, link.default_first, longest))
            rows = rows.paged(size, len(self.meter.sizes) - 1)
        self.meter.rows(selected.path, rows, link.each)
        assert selected.target is not None
        self._object(selected.target, sub_selections(selected.nodes), selected, rows)

    def _refuse(self, selected: Selected, error: GqlServerError | GraphQLError) -> None:
        """Keep an error, and make null the nearest ancestor that can be: nullable, and not within a list."""
        self.errors.append(located_error(error, selected.nodes, selected.path))
        place = null_place(selected)
        if place is None:
            self.nothing = True
        else:
            place.null = True


def null_place(selected: Selected) -> Selected | None:
    """Return the field that is null where one is refused; None: the whole answer.

    Within a list a refusal would be told once a row: so it is the nearest nullable one outside of all lists.
    """
    chain = [selected]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    place = None
    for each in reversed(chain):
        assert each.definition is not None
        if not is_non_null_type(each.definition.type):
            place = each
        if each.is_list:
            break
    return place


def collect_fields(
    type_: GraphQLObjectType,
    selection_sets: Iterable[SelectionSetNode],
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: VariableValues,
    count: Callable[[], None] = lambda: None,
) -> dict[str, list[FieldNode]]:
    """Return the field nodes of an object by response key, in the order of the specification.

    `count` is called for every node that is looked at. Raises GraphQLError for null in a directive.
    """
    fields: dict[str, list[FieldNode]] = {}
    seen: set[str] = set()

    def visit(selection_set: SelectionSetNode) -> None:
        for node in selection_set.selections:
            count()
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
    """Return the selection sets of all nodes of one response key; graphql merges them."""
    return [node.selection_set for node in nodes if node.selection_set]


def _variable(node: FieldNode, argument: str) -> str | None:
    """Return the variable that an argument is given by, or None."""
    for given in node.arguments or ():
        if given.name.value == argument and isinstance(given.value, VariableNode):
            return str(given.value.name.value)
    return None


def _applies(type_: GraphQLObjectType, condition: str) -> bool:
    return condition == type_.name or any(interface.name == condition for interface in type_.interfaces)


def _included(node: Any, variables: VariableValues) -> bool:
    if not node.directives:
        return True
    skip = get_directive_values(GraphQLSkipDirective, node, variables)
    include = get_directive_values(GraphQLIncludeDirective, node, variables)
    return not (skip and skip["if"]) and not (include and not include["if"])
