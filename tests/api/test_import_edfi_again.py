"""What an Ed-Fi import logs, and what a later one leaves alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.errors import ImportFailed
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import find_district, reason_bits
from gql_server.services.imports.edfi import import_edfi
from tests.support.builder import DistrictBuilder
from tests.support.edfi import EdfiFolder, email, everything, phone, rows, run

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> EdfiFolder:
    return EdfiFolder(tmp_path / "edfi")


@pytest.fixture
async def conn(db: Pool) -> AsyncIterator[Connection]:
    async with db.acquire() as conn:
        yield conn


async def test_importing_twice_changes_nothing(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """The second import of the same files writes no row, no change set and no revision (D28, D30)."""
    for number in (1, 2, 3):
        folder.family(
            number, phone("Home", f"555 010{number}"), phone("Mobile", "555 0109"), email("a@example.org")
        )
    folder.relate("2", "3", "Aunt")
    folder.person("Staff", "1", "Ann Hill")
    folder.assign("1", "90")
    first = await run(conn, host, folder)
    before = await everything(conn)
    second = await run(conn, host, folder)
    assert await everything(conn) == before
    assert (first.revision, second.revision) == (1, None)
    assert [(kind, 0, 0, added) for kind, added, _, _ in first.rows()] == second.rows()


async def test_the_planner_knows_what_was_imported(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """After an import the statistics are those of what it wrote, so the first batch need not wait (D30)."""
    folder.family(1, phone("Home", "555 0101"), phone("Mobile", "555 0102"))
    await run(conn, host, folder)
    for table in ("person", "contact_point", "household", "household_member", "relationship", "enrollment"):
        known = (
            f"select (select reltuples from pg_class where oid = '{table}'::regclass), count(*) from {table}"
        )
        ((estimate, written),) = await rows(conn, known)
        assert estimate == written > 0, table


async def test_the_first_import_is_one_change_set(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """Everything an import wrote stands in the log, once for each person or household and kind (D28)."""
    folder.family(1, phone("Home", "555 0101"), phone("Work", "555 0102"), phone("Mobile", "555 0103"))
    await run(conn, host, folder)
    assert await rows(conn, "select revision, source, actor from change_set") == [(1, "IMPORT", "IMPORT")]
    found = await rows(
        conn,
        "select c.revision, c.kind::text, c.subject::text, coalesce(p.source_id, h.source_id, s.source_id)"
        " from subject_change c"
        " left join person p on c.subject = 'PERSON' and p.person_id = c.subject_id"
        " left join household h on c.subject = 'HOUSEHOLD' and h.household_id = c.subject_id"
        " left join school s on c.subject = 'SCHOOL' and s.school_id = c.subject_id"
        " order by 2, 3, 4",
    )
    assert found == [
        (1, "CONTACT_POINTS", "HOUSEHOLD", "household-1"), (1, "CONTACT_POINTS", "PERSON", "contact-1"),
        (1, "ENROLLMENT", "PERSON", "student-1"),
        (1, "MEMBERSHIP", "HOUSEHOLD", "household-1"),
        (1, "MEMBERSHIP", "PERSON", "contact-1"), (1, "MEMBERSHIP", "PERSON", "student-1"),
        (1, "PERSON", "PERSON", "contact-1"), (1, "PERSON", "PERSON", "student-1"),
        (1, "RELATIONSHIP", "PERSON", "contact-1"), (1, "RELATIONSHIP", "PERSON", "student-1"),
        (1, "SCHOOL", "SCHOOL", "1"),
    ]  # fmt: skip


Edit = Callable[[EdfiFolder], None]


def _replace(file: str, old: str, new: str) -> Edit:
    def edit(folder: EdfiFolder) -> None:
        folder.records[file] = [record.replace(old, new) for record in folder.records[file]]

    return edit


@pytest.mark.parametrize(
    ("edit", "kind", "logged"),
    [
        (_replace("Student", "Sam", "Samuel"), "students", "PERSON"),
        (_replace("Contact", "555 0102", "555 0199"), "work phones", "CONTACT_POINTS"),
        (_replace("Contact", "555 0101", "555 0199"), "household phones", "CONTACT_POINTS"),
        (_replace("Contact", "#Mother", "#Aunt"), "relationships", "RELATIONSHIP"),
        (_replace("StudentEnrollment", "#Ninth grade", "#Tenth grade"), "enrollments", "ENROLLMENT"),
        (_replace("StaffAssociation", "2027-06-30", "2028-06-30"), "assignments", "ASSIGNMENT"),
        (_replace("EducationOrganization", "Maple High", "Maple Senior High"), "schools", "SCHOOL"),
        (_replace("EducationOrgCalendar", "2026-05-29", "2026-06-05"), "school years", "SCHOOL"),
    ],
)
async def test_only_what_differs_is_written(
    conn: Connection, host: PluginHost, folder: EdfiFolder, edit: Edit, kind: str, logged: str
) -> None:
    """A changed record changes its row alone, under the next revision, and only that is logged (D28, D30)."""
    folder.family(1, phone("Home", "555 0101"), phone("Work", "555 0102"))
    folder.family(2)
    folder.person("Staff", "1", "Ann Hill")
    folder.assign("1", end="2027-06-30")
    await run(conn, host, folder)
    edit(folder)
    report = await run(conn, host, folder)
    changed = {name: (added, changed) for name, added, changed, _ in report.rows() if added or changed}
    assert set(changed) == {kind}
    assert (changed[kind][0], report.revision) == (0, 2)
    found = await rows(conn, "select distinct kind::text from change where revision = 2")
    assert found == [(logged,)]


async def test_preferences_and_absent_rows_stay(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """An import touches no preference, opt-out or mark set by hand; what it lacks stays as it is (D30)."""
    folder.family(1, phone("Home", "555 0101"), phone("Mobile", "555 0102"))
    folder.family(2, phone("Home", "555 0103"))
    await run(conn, host, folder)
    district = await find_district(conn, "maple")
    assert district is not None
    builder = DistrictBuilder(conn, district, await reason_bits(conn, district.district_id))
    ids = {row["source_id"]: row["person_id"] for row in await conn.fetch("select * from person")}
    await builder.prefer(
        ids["contact-1"], ContactPointKind.CELL_PHONE, on=("EMERGENCY",), chosen=("ATTENDANCE",)
    )
    await builder.opt_out("5550102", Method.TEXT)
    await conn.execute("update relationship set no_contact = true, end_date = '2025-12-01'")
    await conn.execute("update household_member set end_date = '2025-12-01'")
    await conn.execute("update school set portal_contact_information = true")
    before = await everything(conn)
    folder.records["Contact"] = [
        record.replace(phone("Mobile", "555 0102"), "").replace(phone("Home", "555 0103"), "")
        for record in folder.records["Contact"]
    ]
    assert (await run(conn, host, folder)).revision is None
    folder.records |= {name: [] for name in ("Student", "Contact", "StudentEnrollment", "StaffAssociation")}
    folder.person("Student", "2", "Sam Lane2")
    assert (await run(conn, host, folder)).revision is None
    assert await everything(conn) == before


async def test_a_part_may_refer_to_what_is_known(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """Files with a few records refer by identity to people and schools of an earlier import (D30)."""
    folder.family(1)
    folder.family(2)
    await run(conn, host, folder)
    folder.records = {name: [] for name in folder.records}
    folder.enroll("1", entry="2026-05-29")
    folder.enroll("2", entry="2026-07-01")
    folder.relate("1", "2")
    folder.person("Staff", "9", "Ann Hill")
    folder.assign("9", "1")
    report = await run(conn, host, folder)
    added = {kind: count for kind, count, _, _ in report.rows() if count}
    assert added == {
        "school years": 1,
        "staff": 1,
        "household members": 1,
        "relationships": 1,
        "enrollments": 2,
        "assignments": 1,
    }
    assert {changed for _, _, changed, _ in report.rows()} == {0}
    assert report.left_out == {"enrollments without a known school year, assigned by their entry date": 1}


async def test_districts_do_not_meet(conn: Connection, host: PluginHost, folder: EdfiFolder) -> None:
    """The same files in two districts make two of everything, and changing one leaves the other (D28)."""
    folder.family(1, phone("Home", "555 0101"))
    await run(conn, host, folder)
    before = await rows(
        conn, "select t::text from person t union all select t::text from household t order by 1"
    )
    _replace("Student", "Sam", "Samuel")(folder)
    report = await run(conn, host, folder, code="oak")
    assert {changed for _, _, changed, _ in report.rows()} == {0}
    after = await rows(
        conn, "select t::text from person t union all select t::text from household t order by 1"
    )
    assert set(before) < set(after)
    assert await rows(conn, "select code, revision from district order by 1") == [("maple", 1), ("oak", 1)]


async def test_another_district_is_not_referred_to(
    conn: Connection, host: PluginHost, folder: EdfiFolder, tmp_path: Path
) -> None:
    """A person whom only another district knows is a dangling reference, as one whom nobody knows (D30)."""
    folder.family(1)
    await run(conn, host, folder)
    other = EdfiFolder(tmp_path / "other")
    other.enroll("1")
    with pytest.raises(ImportFailed, match="the student '1' leads nowhere"):
        await run(conn, host, other, code="oak")


async def test_of_several_relationships_the_open_one_is_meant(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """Where two people have an ended and an open relationship, the files speak of the open one (D6, D30)."""
    folder.family(1)
    await run(conn, host, folder)
    await conn.execute(
        "insert into relationship (district_id, student_id, contact_id, kind, end_date)"
        " select district_id, student_id, contact_id, 'Aunt', '2020-01-01' from relationship"
    )
    assert (await run(conn, host, folder)).revision is None


async def test_imports_at_once_are_one(db: Pool, host: PluginHost, folder: EdfiFolder) -> None:
    """The same import run four times at once is one change set, in a new district and in a known one (D28)."""

    async def one() -> int | None:
        async with db.acquire() as conn:
            return (await import_edfi(conn, host, folder.path, code="maple")).revision

    async def count(table: str) -> int:
        async with db.acquire() as conn:
            return int(await conn.fetchval(f"select count(*) from {table}"))

    for number in range(1, 20):
        folder.family(number, phone("Home", "555 0101"), phone("Work", "555 0102"))
    folder.write()
    assert sorted(await asyncio.gather(*(one() for _ in range(4))), key=str) == [1, None, None, None]
    assert (await count("relationship"), await count("household_member")) == (19, 38)
    for number in range(1, 20):
        folder.relate(str(number), str(number % 19 + 1))
        folder.enroll(str(number), entry="2025-09-01")
    folder.write()
    assert sorted(await asyncio.gather(*(one() for _ in range(4))), key=str) == [2, None, None, None]
    assert (await count("relationship"), await count("enrollment")) == (38, 38)
