"""How the fields of the schema are joined: what the compiler knows beside the files of `sql/graph`.

A field without a link is a column of its parent's row, named like the field in snake case.

Links say what their rows cost, in the cost of one plain row: `each` is that of a row, `scan` that of looking for the
rows of one parent, however few there are (`scan_portal`: for portal roles, who have few).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gql_server.db.protocols import Database
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import Role, Viewer
from gql_server.hooks.host import PluginHost

PORTAL = frozenset({Role.GUARDIAN, Role.STUDENT, Role.STAFF})
"""The roles of people who see little more than themselves."""

Args: TypeAlias = Mapping[str, object]
"""The coerced arguments of a field, by their GraphQL names."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What one read of a role may ask for.

    max_first: rows of a page. price: see `price.py`. characters: length of the statement, which is what planning it
    takes PostgreSQL's memory for. answer_bytes: size of the answer. seconds: how long the statement may take; None:
    as long as any statement.
    """

    max_first: int = 100
    price: int = 500_000
    characters: int = 90_000
    answer_bytes: int = 4 * 1024 * 1024
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ReadContext:
    """What a read runs with: who asks, where, and how much they may ask for."""

    viewer: Viewer
    db: Database
    host: PluginHost
    limits: ReadLimits

    @property
    def max_first(self) -> int:
        return self.limits.max_first


Condition: TypeAlias = str | Callable[[Args], str]
"""SQL over `{child}` and `{parent}`, the two rows' aliases, and own parameters.

A callable may look at which arguments are given (not None), never at their values: the compiled text is kept for
all requests that give the same ones.
"""
Params: TypeAlias = Callable[[Args, ReadContext], Mapping[str, object]]
Slots: TypeAlias = Callable[[Args, ReadContext], Awaitable[Mapping[str, Sql]]]


def no_params(args: Args, context: ReadContext) -> Mapping[str, object]:
    return {}


def never(args: Args) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Link:
    """A field that is made of rows of a graph file.

    table: the file in `sql/graph`; None: the object is made of the parent's own row.
    on: which of its rows. order: for lists, over `{child}`. params: values of the parameters of `on` and of the file.
    slots: fragments for the slots of the file, which may need a look at the database first.
    none_is_null: whether a list without rows is null. roles: who may ask; None: everyone, the file says what they see.
    most: for lists, how many rows there may be; a list that has more is refused, never cut.
    most_portal: the same for portal roles, whose files show less. fixed: whether the file itself can give no more.
    """

    table: str | None
    on: Condition = "true"
    order: str | None = None
    params: Params = no_params
    slots: Slots | None = None
    none_is_null: bool = False
    roles: frozenset[Role] | None = None
    most: int | None = None
    most_portal: int | None = None
    fixed: bool = False
    each: int = 1
    scan: int = 0

    def bound(self, role: Role) -> int:
        """Return how many rows a list of this link may have for a role."""
        most = self.most_portal if self.most_portal is not None and role in PORTAL else self.most
        assert most is not None, f"the list of {self.table} has no bound"
        return most


@dataclass(frozen=True, slots=True)
class Key:
    """A column that a connection is ordered by, with its PostgreSQL type. Never null; together they are unique."""

    column: str
    type: str


@dataclass(frozen=True, slots=True)
class ConnectionLink:
    """A Relay connection over the rows of a graph file, paged by keys.

    The field has the arguments `first` and `after`. `max_first`: where the bound of `first` is not the server's own.
    look_up: whether arguments name the rows, looking like a `Condition` at which are given alone; that costs
    `scan_look_up` at most.
    """

    table: str
    keys: tuple[Key, ...]
    on: Condition = "true"
    descending: bool = False
    params: Params = no_params
    default_first: int = 50
    max_first: int | None = None
    roles: frozenset[Role] | None = None
    each: int = 1
    scan: int = 0
    scan_portal: int | None = None
    look_up: Callable[[Args], bool] = never
    scan_look_up: int = 0

    def search(self, role: Role, args: Args) -> int:
        """Return what looking for the rows costs a role."""
        scan = self.scan_portal if self.scan_portal is not None and role in PORTAL else self.scan
        return min(scan, self.scan_look_up) if self.look_up(args) else scan


@dataclass(frozen=True, slots=True)
class NodeLink:
    """A field whose type is an interface: the rows of several types, told apart by the id."""

    by_type: Mapping[str, Link]
    roles: frozenset[Role] | None = None

    def branches(self, role: Role) -> Mapping[str, Link]:
        """Return the links of the types that a role may ask for; of the others it finds nothing."""
        return {name: link for name, link in self.by_type.items() if link.roles is None or role in link.roles}


@dataclass(frozen=True, slots=True)
class Expression:
    """A field that is an SQL expression, over its parent's row (`{parent}`) where it has one."""

    sql: str
    slots: Slots | None = None
    params: Params = no_params
    roles: frozenset[Role] | None = None
    each: int = 1


AnyLink: TypeAlias = Link | ConnectionLink | NodeLink | Expression
Links: TypeAlias = Mapping[tuple[str, str], AnyLink]
"""The links of a schema, by the names of type and field."""
