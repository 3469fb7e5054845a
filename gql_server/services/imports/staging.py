"""Staging: rows gathered in memory, a few thousand at a time, and copied into temporary tables."""

from types import MappingProxyType

from gql_server.db.protocols import Connection
from gql_server.db.statements import execute

TABLES = MappingProxyType(
    {
        "import_id": ("kind", "token", "key", "file", "line"),
        "import_use": ("token", "file", "line"),
        "import_organization": ("key", "name", "school", "file", "line"),
        "import_session": ("school", "school_year", "start_date", "end_date"),
        "import_person": ("role", "source_id", "first_name", "last_name", "content", "file", "line"),
        "import_address": ("person", "kind", "value", "priority", "file", "line", "position"),
        "import_relationship": (
            "student", "contact", "kind", "guardian", "messenger", "primary_contact", "lives_with",
            "file", "line",
        ),
        "import_enrollment": (
            "student", "school", "calendar", "school_year", "grade", "start_date", "end_date", "file", "line",
        ),
        "import_assignment": ("staff", "organization", "title", "start_date", "end_date", "file", "line"),
    }
)  # fmt: skip
"""The tables that a reader of files fills, with their columns; `sql/import/staging.sql` says what they mean."""

_ROWS = 4_000


class Stage:
    """The staging tables of one import. Rows wait here until there are enough for a COPY."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._waiting: dict[str, list[tuple[object, ...]]] = {table: [] for table in TABLES}
        self._full: set[str] = set()

    @classmethod
    async def create(cls, conn: Connection) -> "Stage":
        """Make the tables, for the length of the transaction that the connection is in."""
        await execute(conn, "import/staging/create_tables")
        return cls(conn)

    def add(self, table: str, *row: object) -> None:
        """Take a row, its values in the order of the table's columns."""
        rows = self._waiting[table]
        rows.append(row)
        if len(rows) >= _ROWS:
            self._full.add(table)

    async def copy_full(self) -> None:
        """Copy the tables that have gathered enough; call it after every record."""
        while self._full:
            await self._copy(self._full.pop())

    async def finish(self) -> None:
        """Copy what still waits and let the planner know the sizes."""
        for table in TABLES:
            await self._copy(table)
        await execute(self._conn, "import/staging/analyze")

    async def _copy(self, table: str) -> None:
        rows, self._waiting[table] = self._waiting[table], []
        if rows:
            await self._conn.copy_records_to_table(table, records=rows, columns=TABLES[table])
