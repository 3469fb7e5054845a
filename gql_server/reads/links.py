"""Links: how each GraphQL field is read from the rows of the files in `sql/graph`.

A field without a link is a column of its parent's row, named like the field in snake case. Any other field has one of
the four links below.

A link also states its cost, in units of one plain row: `row_cost` is the cost of each row, and `scan_cost` the cost of
searching the rows of one parent, even if none is found.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gql_server.db.plugin_errors import Fragment
from gql_server.db.protocols import Database
from gql_server.domain import defaults
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import Role, Viewer
from gql_server.hooks.host import PluginHost

PORTAL_ROLES = frozenset({Role.GUARDIAN, Role.STUDENT, Role.STAFF})
"""The roles of portal users, who see little more than their own data."""

Args: TypeAlias = Mapping[str, object]
"""The coerced arguments of a field, by their GraphQL names."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How much one read may ask for.

    max_first: rows of one page.
    max_price: see `price.py`.
    max_characters: length of the SQL statement. The memory that PostgreSQL needs for planning grows with it.
    max_answer_bytes: size of the JSON result.
    timeout_seconds: how long the statement may run; None leaves that to the connection's own timeout.
    """

    max_first: int = defaults.MAX_PAGE_SIZE
    max_price: int = defaults.MAX_PRICE
    max_characters: int = defaults.MAX_STATEMENT_CHARACTERS
    max_answer_bytes: int = defaults.MAX_ANSWER_BYTES
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ReadContext:
    """The viewer of a read, the database and plug-ins that it uses, and its limits."""

    viewer: Viewer
    db: Database
    host: PluginHost
    limits: ReadLimits

    @property
    def max_first(self) -> int:
        return self.limits.max_first


Condition: TypeAlias = str | Callable[[Args], str]
"""SQL that selects the rows of a link. `{child}` and `{parent}` stand for the aliases of the two rows.

A callable may only test which arguments are given (are not None), never their values, because the compiled statement
is reused for every request that gives the same arguments.
"""
ParamsFunction: TypeAlias = Callable[[Args, ReadContext], Mapping[str, object]]
"""Returns the values of a link's SQL parameters."""


@dataclass(frozen=True, slots=True)
class PluginPart:
    """SQL of plug-ins in a slot, with a SELECT that runs it alone, to find out whether it is what fails."""

    alone: Sql
    fragments: tuple[Fragment, ...]


@dataclass(frozen=True, slots=True)
class FilledSlots:
    """The SQL for a link's slots, by their names, and the parts of it that plug-ins wrote."""

    sql: Mapping[str, Sql]
    parts: tuple[PluginPart, ...] = ()


SlotsFunction: TypeAlias = Callable[[Args, ReadContext], Awaitable[FilledSlots]]
"""Returns the SQL for a link's slots. It may query the database to make it.

For the slots of an expression the arguments are also those of the field that selects the rows it is computed for, so
that nothing is made for rows that are not selected.
"""


def no_params(args: Args, context: ReadContext) -> Mapping[str, object]:
    return {}


def never(args: Args) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class RowsLink:
    """A field whose value is one row, or a list of rows, of a graph file.

    table: the file in `sql/graph`; None if the object is made of the parent's own row.
    condition: selects the file's rows. It and the file may use the parameters that `params` returns.
    order: the ORDER BY of a list, over `{child}`.
    slots: returns the SQL for the slots of the file.
    tables: the table for each slot of a file that can be used with several tables.
    null_when_empty: whether a list without rows is null instead of [].
    roles: who may select the field; None for everyone. The graph file decides which rows each viewer sees.
    max_rows: how many rows a list may have. A longer list is an error; it is never cut.
    max_rows_portal: the same for portal roles, if it differs.
    naturally_bounded: whether the graph file can never give more than `max_rows`, so that no count is needed.
    """

    table: str | None
    condition: Condition = "true"
    order: str | None = None
    params: ParamsFunction = no_params
    slots: SlotsFunction | None = None
    tables: Mapping[str, str] | None = None
    null_when_empty: bool = False
    roles: frozenset[Role] | None = None
    max_rows: int | None = None
    max_rows_portal: int | None = None
    naturally_bounded: bool = False
    row_cost: int = 1
    scan_cost: int = 0

    def max_rows_for(self, role: Role) -> int:
        """Return how many rows a list of this link may have for a role."""
        is_portal = self.max_rows_portal is not None and role in PORTAL_ROLES
        max_rows = self.max_rows_portal if is_portal else self.max_rows
        assert max_rows is not None, f"the list of {self.table} has no maximum"
        return max_rows


@dataclass(frozen=True, slots=True)
class SortKey:
    """A column that a connection is sorted by, with its PostgreSQL type.

    The column is never null. All sort keys of a connection together are unique.
    """

    column: str
    type: str


@dataclass(frozen=True, slots=True)
class ConnectionLink:
    """A field that is a Relay connection over the rows of a graph file, with keyset pagination.

    The field has the arguments `first` and `after`.

    tables: the SQL for each slot of a file that can be used with several.
    max_first: the maximum of `first`; None for the maximum of the viewer's role.
    selects_by_id: tells whether the arguments name the rows by id. Like a `Condition` it may only test which arguments
    are given. Such a search costs `scan_cost_by_id` at most.
    scan_cost_portal: the scan cost for portal roles, if it differs.
    """

    table: str
    sort_keys: tuple[SortKey, ...]
    condition: Condition = "true"
    descending: bool = False
    params: ParamsFunction = no_params
    tables: Mapping[str, str] | None = None
    default_first: int = 50
    max_first: int | None = None
    roles: frozenset[Role] | None = None
    row_cost: int = 1
    scan_cost: int = 0
    scan_cost_portal: int | None = None
    selects_by_id: Callable[[Args], bool] = never
    scan_cost_by_id: int = 0

    def scan_cost_for(self, role: Role, args: Args) -> int:
        """Return the cost of searching the rows, for a role and the arguments given."""
        is_portal = self.scan_cost_portal is not None and role in PORTAL_ROLES
        cost = self.scan_cost_portal if is_portal else self.scan_cost
        assert cost is not None
        return min(cost, self.scan_cost_by_id) if self.selects_by_id(args) else cost


@dataclass(frozen=True, slots=True)
class NodeLink:
    """A field whose type is an interface. It has a link for each object type; the id decides which one finds a row.

    type_of: returns the only type of which the arguments can find an object, as far as `id_kind` tells it; else None.
    """

    by_type: Mapping[str, RowsLink]
    type_of: Callable[[Args], str | None]
    roles: frozenset[Role] | None = None

    def branches(self, role: Role) -> Mapping[str, RowsLink]:
        """Return the links of the types that a role may select; objects of other types are not found."""
        return {name: link for name, link in self.by_type.items() if link.roles is None or role in link.roles}

    def searched(self, role: Role, args: Args) -> Mapping[str, RowsLink]:
        """Return the branches to search: the one of the arguments' type, or all if there is none of that type.

        PostgreSQL prepares each branch of a statement before it runs, whether or not it can find a row.
        """
        branches = self.branches(role)
        type_ = self.type_of(args)
        return {type_: branches[type_]} if type_ is not None and type_ in branches else branches


@dataclass(frozen=True, slots=True)
class ExpressionLink:
    """A field whose value is an SQL expression. `{parent}` is the alias of the parent's row, if there is one."""

    sql: str
    slots: SlotsFunction | None = None
    params: ParamsFunction = no_params
    roles: frozenset[Role] | None = None
    row_cost: int = 1


Link: TypeAlias = RowsLink | ConnectionLink | NodeLink | ExpressionLink
Links: TypeAlias = Mapping[tuple[str, str], Link]
"""The links of a schema, by the names of type and field."""
