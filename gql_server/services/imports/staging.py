"""The staging tables of an import: temporary tables that are filled by COPY, a few thousand rows at a time."""

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
"""The staging tables and their columns. `sql/import/staging.sql` explains them."""

_ROWS_PER_COPY = 4_000


class StagingTables:
    """The staging tables of one import. Rows are buffered until there are enough for a COPY."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._waiting: dict[str, list[tuple[object, ...]]] = {table: [] for table in TABLES}
        self._full: set[str] = set()

    @classmethod
    async def create(cls, conn: Connection) -> "StagingTables":
        """Create the tables. They are dropped at the end of the connection's transaction."""
        await execute(conn, "import/staging/create_tables")
        return cls(conn)

    def add(self, table: str, *row: object) -> None:
        """Buffer a row. Its values are in the order of the table's columns."""
        rows = self._waiting[table]
        rows.append(row)
        if len(rows) >= _ROWS_PER_COPY:
            self._full.add(table)

    async def copy_full(self) -> None:
        """Copy the buffers that are full. Call this after every record."""
        while self._full:
            await self._copy(self._full.pop())

    async def finish(self) -> None:
        """Copy all buffered rows and analyze the tables."""
        for table in TABLES:
            await self._copy(table)
        await execute(self._conn, "import/staging/analyze")

    async def _copy(self, table: str) -> None:
        rows, self._waiting[table] = self._waiting[table], []
        if rows:
            await self._conn.copy_records_to_table(table, records=rows, columns=TABLES[table])
