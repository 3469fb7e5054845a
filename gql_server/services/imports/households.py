"""Who lives with whom: students and contacts joined over the contacts they share."""

from array import array
from collections.abc import Iterator

from gql_server.db.protocols import Connection
from gql_server.db.statements import bind, execute, statement

_PREFETCH = 5_000


class Joined:
    """Sets of numbers that grow together. A set's root is its smallest number; four bytes a number."""

    def __init__(self, size: int) -> None:
        self._parent = array("i", range(size))

    def root(self, number: int) -> int:
        """Return the smallest number of the set, and shorten the way to it."""
        parent = self._parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Make one set of the sets of two numbers."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low

    def roots(self) -> Iterator[tuple[int, int]]:
        """Yield every number with its root."""
        return ((number, self.root(number)) for number in range(len(self._parent)))


async def stage_households(conn: Connection, district_id: int) -> None:
    """Fill the staged households from the staged relationships of people who live together.

    A household bears the id of its student with the smallest one, unless one of its students has given theirs
    to a household before: so it stays the same from import to import.
    """
    joined = Joined(await execute(conn, "import/household/number_residents"))
    text, _ = bind(statement("import/household/ties"))
    async for tie in conn.cursor(text, prefetch=_PREFETCH):
        joined.join(tie["student"], tie["contact"])
    await conn.copy_records_to_table("import_root", records=joined.roots(), columns=("number", "root"))
    await execute(conn, "import/household/analyze")
    await execute(conn, "import/household/set_roots")
    await execute(conn, "import/household/form", district_id=district_id)
