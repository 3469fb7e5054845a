"""The price of a read: how many rows its document can ask for, known before any SQL is made.

A field costs what its rows cost, times the rows that it hangs on: links followed times the bounds of lists and the
sizes of pages. Beside the price the length of the statement is measured, since PostgreSQL plans every part of the
text, whether or not it finds a row. Both are summed while the fields are collected, which ends where one is over.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from gql_server.domain.viewer import Role
from gql_server.errors import TooExpensive
from gql_server.reads.links import ReadLimits

_MAX_NODES = 50_000
"""Nodes of the document that are looked at, counted each time: fragments in fragments repeat them."""


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows a field can have in all: `fixed` times the page sizes that are variables of the request.

    count: that number for the request at hand. sizes: which of the variables, by their position in `Meter.sizes`.
    """

    count: int = 1
    fixed: int = 1
    sizes: tuple[int, ...] = ()

    def times(self, number: int) -> "Rows":
        return Rows(self.count * number, self.fixed * number, self.sizes)

    def paged(self, size: int, place: int) -> "Rows":
        return Rows(self.count * size, self.fixed, (*self.sizes, place))


@dataclass(frozen=True, slots=True)
class PageSize:
    """A page size that is a variable of the request."""

    variable: str
    default: int
    longest: int

    def of(self, variables: Mapping[str, object]) -> int:
        """Return the size asked for; one that is out of range is refused elsewhere, and costs nothing."""
        given = variables.get(self.variable)
        size = self.default if given is None else given
        return size if isinstance(size, int) and 0 < size <= self.longest else 0


@dataclass(frozen=True, slots=True)
class Price:
    """The price of an operation as a sum of products of page sizes, and the length of its statement."""

    terms: Mapping[tuple[int, ...], int]
    sizes: Sequence[PageSize]
    characters: int

    def of(self, variables: Mapping[str, object]) -> int:
        """Return the price for the variables of a request."""
        if not self.sizes:
            return sum(self.terms.values())
        sizes = [size.of(variables) for size in self.sizes]
        return sum(fixed * prod(sizes[place] for place in places) for places, fixed in self.terms.items())


class Meter:
    """Sums the price of one operation. Each of its methods raises TooExpensive where a budget is exceeded."""

    def __init__(self, limits: ReadLimits, role: Role) -> None:
        self._limits, self._role = limits, role
        self._terms: dict[tuple[int, ...], int] = defaultdict(int)
        self._prices: dict[tuple[str, ...], int] = defaultdict(int)
        self._searches: dict[tuple[str, ...], tuple[str, int]] = {}
        self._lengths: dict[tuple[str, ...], int] = defaultdict(int)
        self._price = self._characters = self._nodes = 0
        self.sizes: list[PageSize] = []

    @property
    def price(self) -> Price:
        return Price(dict(self._terms), tuple(self.sizes), self._characters)

    def rows(self, path: tuple[str, ...], rows: Rows, each: int) -> None:
        """Add rows of a field, at the cost of `each`."""
        self._terms[rows.sizes] += rows.fixed * each
        self._prices[path] += rows.count * each
        self._price += rows.count * each
        if self._price > self._limits.price:
            raise TooExpensive(
                f"The query has a price of {self._price:,} or more; the budget of the role {self._role} is "
                f"{self._limits.price:,}. {_most(self._prices)} {self._remedy()}"
            )

    def search(self, path: tuple[str, ...], name: str, rows: Rows, each: int) -> None:
        """Add what a field of a name costs before it gives a row: looking for them, once for each of its parents."""
        self._searches[path] = (name, each)
        self.rows(path, rows, 1 + each)

    def _remedy(self) -> str:
        path = max(self._prices, key=self._prices.__getitem__)
        name, each = self._searches.get(path, ("", 0))
        if 2 * each > self._prices[path]:
            return f"Reading `{name}` costs {each:,} each time it is asked: ask for it once, or by id."
        return "Ask for a smaller `first`, or for less at a time."

    def text(self, path: tuple[str, ...], characters: int) -> None:
        """Add to the statement what a field makes of it."""
        self._characters += characters
        self._lengths[path] += characters
        if self._characters > self._limits.characters:
            raise TooExpensive(
                f"The query has a price of {self._characters:,} or more in characters of its statement; the budget of "
                f"the role {self._role} is {self._limits.characters:,}. {_most(self._lengths)} "
                "Follow fewer links in one query."
            )

    def node(self) -> None:
        """Count a node of the document that is looked at."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise TooExpensive(
                f"The query has a price of {self._nodes:,} or more in fields that fragments repeat; the budget is "
                f"{_MAX_NODES:,}. {_most(self._lengths)} Spread fewer fragments within fragments."
            )


def _most(costs: Mapping[tuple[str, ...], int]) -> str:
    if not costs:
        return ""
    path, cost = max(costs.items(), key=lambda each: each[1])
    return f"`{'.'.join(path)}` costs most: {cost:,}."
