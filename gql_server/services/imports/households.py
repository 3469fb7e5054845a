"""Derives households: students and contacts who live together, also by way of other contacts they share."""

from array import array
from collections.abc import Iterator

from gql_server.db.protocols import Connection
from gql_server.db.statements import bind, execute, statement

_PREFETCH = 5_000


class DisjointSets:
    """A union-find structure over the numbers from 0. The root of a set is its smallest number. 4 bytes a number."""

    def __init__(self, size: int) -> None:
        self._parent = array("i", range(size))

    def root(self, number: int) -> int:
        """Return the smallest number of the set, and shorten the path to it."""
        parent = self._parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Unite the sets of two numbers."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low

    def roots(self) -> Iterator[tuple[int, int]]:
        """Yield every number with its root."""
        return ((number, self.root(number)) for number in range(len(self._parent)))


async def stage_households(conn: Connection, district_id: int) -> None:
    """Stage the households, derived from the staged relationships of people who live together.

    A household's source id comes from its student with the smallest id, or from the student after whom an earlier
    import named it. So the id stays the same from import to import.
    """
    joined = DisjointSets(await execute(conn, "import/household/number_residents"))
    text, _ = bind(statement("import/household/ties"))
    async for tie in conn.cursor(text, prefetch=_PREFETCH):
        joined.join(tie["student"], tie["contact"])
    await conn.copy_records_to_table("import_root", records=joined.roots(), columns=("number", "root"))
    await execute(conn, "import/household/analyze")
    await execute(conn, "import/household/set_roots")
    await execute(conn, "import/household/form", district_id=district_id)
