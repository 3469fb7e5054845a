"""Loads the staging tables into the district: first everything is validated, then each table is written.

Nothing here depends on a file format: any importer that fills the staging tables can use it.
"""

from collections import Counter

from gql_server.db.protocols import Connection
from gql_server.db.statements import execute, fetch, fetchrow, fetchval
from gql_server.domain.changes import Source
from gql_server.domain.channels import ContactPointKind
from gql_server.errors import ImportFailed
from gql_server.services.changes import take_revision
from gql_server.services.imports.households import stage_households
from gql_server.services.imports.report import Count, ImportReport

_ORDER = (
    "schools", "school years", "students", "contacts", "staff", "households", "household members",
    *(f"{kind.label}s" for kind in ContactPointKind), "relationships", "enrollments", "assignments",
)  # fmt: skip
_GUESSED_YEARS = {
    "next": "enrollments with an entry date outside every school year, assigned to the school's next year",
    "date": "enrollments without a known school year, assigned by their entry date",
}


async def load(
    conn: Connection, district_id: int, district_code: str, left_out: Counter[str], actor: str
) -> ImportReport:
    """Write the staged records that differ, log them as one change set (D28), and return the report.

    Preferences are never changed, and records that the files lack are kept (D30). Raises ImportFailed for a dangling
    reference and for a record that is given twice with different data.
    """
    await _resolve(conn, district_id)
    counts = await _write(conn, district_id, left_out)
    changed = any(count.added or count.changed for count in counts)
    revision = await _log(conn, district_id, actor) if changed else None
    return ImportReport(district_code, counts, dict(+left_out), revision)


async def _resolve(conn: Connection, district_id: int) -> None:
    """Resolve every reference. Raises ImportFailed for a dangling reference and for contradictory records."""
    await execute(conn, "import/identity/collect")
    await execute(conn, "import/identity/analyze")
    await execute(conn, "import/identity/add_known", district_id=district_id)
    if row := await fetchrow(conn, "import/identity/first_dangling"):
        others = f" ({row['total'] - 1} more lead nowhere.)" if row["total"] > 1 else ""
        raise ImportFailed(
            row["file"],
            row["line"],
            f"the reference to the {row['kind']} {row['name']!r} leads nowhere: "
            f"neither the files nor the district have it.{others}",
        )
    if row := await fetchrow(conn, "import/identity/first_conflict"):
        first = f"{row['first_file']}:{row['first_line']}"
        raise ImportFailed(
            row["file"], row["line"], f"{row['what']} is given twice with different data, first at {first}."
        )


async def _write(conn: Connection, district_id: int, left_out: Counter[str]) -> tuple[Count, ...]:
    counts = await _load(conn, district_id, "schools", "people")
    await execute(conn, "import/identity/schools", district_id=district_id)
    await execute(conn, "import/identity/people", district_id=district_id)
    await execute(conn, "import/school_year/choose", district_id=district_id)
    counts += await _load(conn, district_id, "calendars", "relationships", "enrollments", "assignments")
    await _choose_contact_points(conn, district_id, left_out)
    counts += await _load(conn, district_id, "households")
    await execute(conn, "import/identity/households", district_id=district_id)
    counts += await _load(conn, district_id, "household_phones", "members", "contact_points")
    for row in await fetch(conn, "import/school_year/guessed"):
        left_out[_GUESSED_YEARS[row["year_from"]]] += row["total"]
    return tuple(sorted(counts, key=lambda count: _ORDER.index(count.kind)))


async def _choose_contact_points(conn: Connection, district_id: int, left_out: Counter[str]) -> None:
    """Decide which addresses become household phones and which become a person's contact points (D1)."""
    for row in await fetch(conn, "import/household/choose_contact_points"):
        kind = ContactPointKind(row["kind"])
        limit = "second and further" if kind.is_phone else "third and further"
        left_out[f"{kind.label}s given twice for the same person"] += row["repeated"]
        left_out[f"{limit} {kind.label}s of a person"] += row["further"]
    await stage_households(conn, district_id)
    taken = await fetchrow(conn, "import/household/take_home_phones")
    assert taken is not None
    left_out["home phones of other household members that repeat the household phone"] += taken["repeated"]
    left_out["students who live with no contact, imported without a household"] += await fetchval(
        conn, "import/household/count_without_contact"
    )


async def _load(conn: Connection, district_id: int, *names: str) -> list[Count]:
    """Execute statements that each write the differing records and return a row of counts for each kind."""
    rows = [
        row for name in names for row in await fetch(conn, f"import/write/{name}", district_id=district_id)
    ]
    return [Count(row["kind"], row["added"], row["changed"], row["unchanged"]) for row in rows]


async def _log(conn: Connection, district_id: int, actor: str) -> int:
    """Take the district's next revision, the last lock of the transaction, and log the changes."""
    revision = await take_revision(conn, district_id, Source.IMPORT, actor)
    await execute(conn, "import/write/log", district_id=district_id, revision=revision)
    return revision
