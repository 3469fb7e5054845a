"""From the staging tables into the district: checked whole, then written set by set.

Nothing here knows a file format: whoever fills the staging tables can load them.
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
    *(f"{kind.words}s" for kind in ContactPointKind), "relationships", "enrollments", "assignments",
)  # fmt: skip
_GUESSED_YEARS = {
    "next": "enrollments entered outside every school year, taken into the school's next one",
    "date": "enrollments without any school year to go by, taken by their entry date",
}


async def load(
    conn: Connection, district_id: int, district_code: str, left_out: Counter[str], actor: str
) -> ImportReport:
    """Write what is staged and different, log it as one change set (D28), and return the report.

    Preferences are never touched, and what the files lack stays (D30). Raises ImportFailed for a reference
    that leads nowhere and for a record given twice with different data.
    """
    await _resolve(conn, district_id)
    counts = await _write(conn, district_id, left_out)
    changed = any(count.added or count.changed for count in counts)
    revision = await _log(conn, district_id, actor) if changed else None
    return ImportReport(district_code, counts, dict(+left_out), revision)


async def _resolve(conn: Connection, district_id: int) -> None:
    """Find out what every reference stands for, and that records do not contradict each other."""
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
    """Settle what becomes the household's phone and what a person's own contact point (D1)."""
    for row in await fetch(conn, "import/household/choose_contact_points"):
        kind = ContactPointKind(row["kind"])
        limit = "second and further" if kind.is_phone else "third and further"
        left_out[f"{kind.words}s given again for the same person"] += row["repeated"]
        left_out[f"{limit} {kind.words}s of a person"] += row["further"]
    await stage_households(conn, district_id)
    taken = await fetchrow(conn, "import/household/take_home_phones")
    assert taken is not None
    left_out["home phones that repeat the household's, given by another who lives there"] += taken["repeated"]
    left_out["students with no contact who lives with them, left without a household"] += await fetchval(
        conn, "import/household/count_without_contact"
    )


async def _load(conn: Connection, district_id: int, *names: str) -> list[Count]:
    """Run statements of one shape: each writes what differs and gives a row of counts for each kind."""
    rows = [
        row for name in names for row in await fetch(conn, f"import/write/{name}", district_id=district_id)
    ]
    return [Count(row["kind"], row["added"], row["changed"], row["unchanged"]) for row in rows]


async def _log(conn: Connection, district_id: int, actor: str) -> int:
    """Take the district's next revision, last of all locks, and write the changes under it."""
    revision = await take_revision(conn, district_id, Source.IMPORT, actor)
    await execute(conn, "import/write/log", district_id=district_id, revision=revision)
    return revision
