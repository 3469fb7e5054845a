"""The generated rows of a chunk, by table, and their COPY into the database."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from gql_server.db.protocols import Connection

Row = tuple[object, ...]

COLUMNS = {
    "person": ("district_id", "person_id", "source_id", "first_name", "last_name"),
    "contact_point": ("district_id", "person_id", "kind", "value"),
    "household": ("district_id", "household_id", "source_id", "name", "phone"),
    "household_member": ("district_id", "household_id", "person_id", "start_date", "end_date"),
    "enrollment": ("district_id", "person_id", "school_id", "school_year", "grade", "start_date", "end_date"),
    "district_assignment": ("district_id", "person_id", "school_id", "title", "start_date", "end_date"),
    "relationship": (
        *("district_id", "student_id", "contact_id", "kind"),
        *("guardian", "messenger", "no_contact", "start_date", "end_date"),
    ),
    "preference": (
        *("district_id", "person_id", "contact_point", "method"),
        *("reasons_on", "reasons_chosen"),
    ),
    "household_preference": ("district_id", "household_id", "method", "reasons_on", "reasons_chosen"),
    "opt_out": (
        *("district_id", "address", "method", "reasons", "source"),
        *("evidence", "recorded_at", "lifted_at"),
    ),
}


@dataclass(slots=True)
class Rows:
    """Rows by table. The order of the tables satisfies the foreign keys. The columns are in `COLUMNS`."""

    person: list[Row] = field(default_factory=list)
    contact_point: list[Row] = field(default_factory=list)
    household: list[Row] = field(default_factory=list)
    household_member: list[Row] = field(default_factory=list)
    enrollment: list[Row] = field(default_factory=list)
    district_assignment: list[Row] = field(default_factory=list)
    relationship: list[Row] = field(default_factory=list)
    preference: list[Row] = field(default_factory=list)
    household_preference: list[Row] = field(default_factory=list)
    opt_out: list[Row] = field(default_factory=list)

    def tables(self) -> Iterator[tuple[str, list[Row]]]:
        for table in fields(self):
            yield table.name, getattr(self, table.name)

    async def copy(self, conn: Connection) -> None:
        """Write all rows by COPY."""
        for table, records in self.tables():
            if records:
                await conn.copy_records_to_table(table, records=records, columns=COLUMNS[table])
