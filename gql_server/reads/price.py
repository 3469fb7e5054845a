"""The price of a read: an upper bound of the rows that it can ask for, known before any SQL is compiled.

The price of a field is the cost of its rows, multiplied by the number of its parents. The number of rows is the
maximum length of a list or the size of a page. The length of the SQL statement is limited as well, because PostgreSQL
plans every part of the text whether or not it finds rows. Both are added up while the fields are collected, which
stops as soon as a limit is exceeded.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from gql_server.domain.viewer import Role
from gql_server.errors import TooExpensive
from gql_server.reads.links import ReadLimits

_MAX_NODES = 50_000
"""How many nodes of the document may be visited. A node of a fragment is visited once for every spread."""


@dataclass(frozen=True, slots=True)
class RowCount:
    """The largest number of rows that a field can have in the whole response.

    count: that number for the current request.
    fixed: the part of it that does not depend on variables.
    sizes: the page sizes that are variables, as indexes into `PriceMeter.page_sizes`. `fixed` times these is `count`.
    """

    count: int = 1
    fixed: int = 1
    sizes: tuple[int, ...] = ()

    def times(self, number: int) -> "RowCount":
        """Return the count of rows below these, with `number` for each."""
        return RowCount(self.count * number, self.fixed * number, self.sizes)

    def times_page(self, size: int, index: int) -> "RowCount":
        """Return the count of rows below these, with a page for each whose size is the variable at `index`."""
        return RowCount(self.count * size, self.fixed, (*self.sizes, index))


@dataclass(frozen=True, slots=True)
class PageSize:
    """A page size that is a variable of the request."""

    variable: str
    default: int
    maximum: int

    def value(self, variables: Mapping[str, object]) -> int:
        """Return the size that a request asks for; 0 if it is out of range, because such a page is an error."""
        given = variables.get(self.variable)
        size = self.default if given is None else given
        return size if isinstance(size, int) and 0 < size <= self.maximum else 0


@dataclass(frozen=True, slots=True)
class Price:
    """The price of an operation: the sum of `terms`, each multiplied by the page sizes that it depends on.

    terms: the fixed part of each product, by the indexes of its page sizes in `page_sizes`.
    characters: the length of the statement.
    """

    terms: Mapping[tuple[int, ...], int]
    page_sizes: Sequence[PageSize]
    characters: int

    def for_variables(self, variables: Mapping[str, object]) -> int:
        """Return the price for the variables of one request."""
        if not self.page_sizes:
            return sum(self.terms.values())
        sizes = [size.value(variables) for size in self.page_sizes]
        return sum(fixed * prod(sizes[index] for index in indexes) for indexes, fixed in self.terms.items())


class PriceMeter:
    """Adds up the price of one operation. Its `add_` and `count_` methods raise TooExpensive beyond a limit."""

    def __init__(self, limits: ReadLimits, role: Role) -> None:
        self._limits, self._role = limits, role
        self._terms: dict[tuple[int, ...], int] = defaultdict(int)
        self._prices: dict[tuple[str, ...], int] = defaultdict(int)
        self._scans: dict[tuple[str, ...], tuple[str, int]] = {}
        self._lengths: dict[tuple[str, ...], int] = defaultdict(int)
        self._price = self._characters = self._nodes = 0
        self.page_sizes: list[PageSize] = []

    @property
    def price(self) -> Price:
        return Price(dict(self._terms), tuple(self.page_sizes), self._characters)

    def add_rows(self, path: tuple[str, ...], rows: RowCount, row_cost: int) -> None:
        """Add the rows of the field at a path."""
        self._terms[rows.sizes] += rows.fixed * row_cost
        self._prices[path] += rows.count * row_cost
        self._price += rows.count * row_cost
        if self._price > self._limits.max_price:
            raise TooExpensive(
                f"The query has a price of {self._price:,} or more; the budget of the role {self._role} is "
                f"{self._limits.max_price:,}. {_most_expensive(self._prices)} {self._remedy()}"
            )

    def add_scan(self, path: tuple[str, ...], name: str, parents: RowCount, scan_cost: int) -> None:
        """Add the cost of searching the rows of the field at a path, once for each of its parents."""
        self._scans[path] = (name, scan_cost)
        self.add_rows(path, parents, 1 + scan_cost)

    def add_text(self, path: tuple[str, ...], characters: int) -> None:
        """Add the length of the SQL that the field at a path becomes."""
        self._characters += characters
        self._lengths[path] += characters
        if self._characters > self._limits.max_characters:
            raise TooExpensive(
                f"The query has a price of {self._characters:,} or more in characters of its SQL statement; the budget "
                f"of the role {self._role} is {self._limits.max_characters:,}. {_most_expensive(self._lengths)} "
                "Nest fewer objects in one query."
            )

    def count_node(self) -> None:
        """Count one visited node of the document."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise TooExpensive(
                f"The query has a price of {self._nodes:,} or more in fields that fragments repeat; the budget is "
                f"{_MAX_NODES:,}. {_most_expensive(self._lengths)} Spread fewer fragments within fragments."
            )

    def _remedy(self) -> str:
        path = max(self._prices, key=self._prices.__getitem__)
        name, scan_cost = self._scans.get(path, ("", 0))
        if 2 * scan_cost > self._prices[path]:
            return f"Reading `{name}` costs {scan_cost:,} each time it is asked: ask for it once, or by id."
        return "Ask for a smaller `first`, or for less at a time."


def _most_expensive(costs: Mapping[tuple[str, ...], int]) -> str:
    if not costs:
        return ""
    path, cost = max(costs.items(), key=lambda item: item[1])
    return f"`{'.'.join(path)}` costs most: {cost:,}."
