"""What an Ed-Fi import refuses: with the file and the line, and with nothing written."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.errors import ImportFailed, Unavailable
from gql_server.hooks.host import PluginHost
from gql_server.services.imports.edfi import import_edfi
from tests.support.edfi import EdfiFolder, element, everything, phone, refer, run

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> EdfiFolder:
    folder = EdfiFolder(tmp_path / "edfi")
    folder.family(1, phone("Home", "555 0101"))
    folder.person("Staff", "1", "Ann Hill")
    folder.assign("1")
    return folder


@pytest.fixture
async def conn(db: Pool) -> AsyncIterator[Connection]:
    async with db.acquire() as conn:
        yield conn


async def refused(conn: Connection, host: PluginHost, folder: EdfiFolder) -> ImportFailed:
    """Import, into a new district and into one that is there; return the error, after seeing nothing written."""
    for code in ("oak", "maple"):
        before = await everything(conn)
        with pytest.raises(ImportFailed) as caught:
            await run(conn, host, folder, code=code)
        assert await everything(conn) == before
    return caught.value


Edit = Callable[[EdfiFolder], None]
_MEMBERSHIP = "StudentEducationOrganizationAssociation"


@pytest.mark.parametrize(
    ("edit", "file", "problem"),
    [
        (lambda f: f.relate("1", "#PRNT_9"), "Contact", r"the contact 'PRNT_9' leads nowhere"),
        (lambda f: f.relate("1", "9"), "Contact", r"the contact '9' leads nowhere"),
        (lambda f: f.relate("9", "1"), "Contact", r"the student '9' leads nowhere"),
        (lambda f: f.enroll("9"), "StudentEnrollment", r"the student '9' leads nowhere"),
        (lambda f: f.enroll("1", "90"), "StudentEnrollment", r"the school '90' leads nowhere"),
        (
            lambda f: f.enroll("1", entry="2025-09-01", more='<CalendarReference ref="C"/>'),
            "StudentEnrollment",
            r"the calendar 'C' leads nowhere",
        ),
        (lambda f: f.assign("9"), "StaffAssociation", r"the staff '9' leads nowhere"),
        (lambda f: f.assign("1", "8"), "StaffAssociation", r"the organization '8' leads nowhere"),
        (
            lambda f: f.session("8", "2025-2026", "2025-08-20", "2026-05-29"),
            "EducationOrgCalendar",
            r"the school '8' leads nowhere",
        ),
        (
            lambda f: f.add("Student", element(_MEMBERSHIP, refer("Student", "9"))),
            "Student",
            "the student '9'",
        ),
        (lambda f: f.relate("#1", "1"), "Contact", r"the student '1' leads nowhere"),
        (
            lambda f: f.add("Contact", element("StudentContactAssociation", refer("Student", "1"))),
            "Contact",
            "lacks its ContactReference",
        ),
        (
            lambda f: f.add("Student", element(_MEMBERSHIP, "<StudentReference/>")),
            "Student",
            "neither a `ref` nor an identity",
        ),
    ],
)
async def test_a_reference_must_lead_somewhere(
    conn: Connection, host: PluginHost, folder: EdfiFolder, edit: Edit, file: str, problem: str
) -> None:
    """A dangling reference, in either form and of every kind, is an error with its file and line (D30)."""
    await run(conn, host, folder)
    edit(folder)
    error = await refused(conn, host, folder)
    assert (error.file, error.line) == (f"{file}.xml", folder.line(file, -1))
    assert problem in error.problem


@pytest.mark.parametrize(
    ("edit", "file", "problem"),
    [
        (lambda f: f.person("Student", " ", "Sam Lane"), "Student", "the Student lacks its StudentUniqueId."),
        (lambda f: f.person("Contact", "2", "Ada"), "Contact", "the Contact lacks its Name/LastSurname."),
        (lambda f: f.add("Student", "<Student/>"), "Student", "the Student lacks its StudentUniqueId."),
        (lambda f: f.school("2", ""), "EducationOrganization", "the School lacks its NameOfInstitution."),
        (
            lambda f: f.enroll("1", entry=""),
            "StudentEnrollment",
            "the StudentSchoolAssociation lacks its EntryDate.",
        ),
        (
            lambda f: f.enroll("1", entry="20/08/2025"),
            "StudentEnrollment",
            "the EntryDate '20/08/2025' is not a date such as 2021-08-23.",
        ),
        (
            lambda f: f.enroll("1", leave="2025-02-29"),
            "StudentEnrollment",
            "the ExitWithdrawDate '2025-02-29' is not a date such as 2021-08-23.",
        ),
        (
            lambda f: f.session("1", "2025-2027", "2025-08-20", "2026-05-29"),
            "EducationOrgCalendar",
            "the SchoolYear '2025-2027' is not a school year such as 2021-2022.",
        ),
        (lambda f: f.relate("1", "1", primary="yes"), "Contact", "'yes' is not true or false."),
    ],
)
async def test_a_record_must_be_complete_and_readable(
    conn: Connection, host: PluginHost, folder: EdfiFolder, edit: Edit, file: str, problem: str
) -> None:
    """A record without its id or name, or with a date, year or flag that is none, is named by file and line."""
    edit(folder)
    error = await refused(conn, host, folder)
    assert (error.file, error.line) == (f"{file}.xml", folder.line(file, -1))
    assert problem in error.problem


@pytest.mark.parametrize(
    ("edit", "file", "what"),
    [
        (lambda f: f.person("Student", "1", "Eve Hill"), "Student", "The student 1"),
        (lambda f: f.person("Contact", "1", "Ada Lane1", phone("Work", "5")), "Contact", "The contact 1"),
        (lambda f: f.person("Staff", "1", "Ada Lane"), "StaffAssociation", "The staff 1"),
        (lambda f: f.school("1", "Maple Middle"), "EducationOrganization", "The organization 1"),
        (lambda f: f.relate("1", "1", "Aunt"), "Contact", "The relationship of student-1 and contact-1"),
        (
            lambda f: f.enroll("1", grade="Tenth grade"),
            "StudentEnrollment",
            "The enrollment of student-1 in school 1 from 2025-08-20",
        ),
        (
            lambda f: f.assign("1", end="2021-06-30"),
            "StaffAssociation",
            "The assignment of staff-1 to 1 as Teacher from 2020-08-01",
        ),
    ],
)
async def test_one_record_cannot_say_two_things(
    conn: Connection, host: PluginHost, folder: EdfiFolder, edit: Edit, file: str, what: str
) -> None:
    """The same id twice with different data is an error that names both places."""
    edit(folder)
    error = await refused(conn, host, folder)
    assert (error.file, error.line) == (f"{file}.xml", folder.line(file, -1))
    assert error.problem.startswith(f"{what} is given twice with different data, first at {file}.xml:")


async def test_one_id_cannot_stand_for_two_records(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """Two contacts with one `id` attribute are an error, since a reference could mean either."""
    folder.person("Contact", "2", "Bea Hill", id="PRNT_1")
    folder.person("Contact", "3", "Kim Moor", id="PRNT_1")
    error = await refused(conn, host, folder)
    assert (error.line, error.problem) == (
        folder.line("Contact", -1),
        "The id PRNT_1 of a contact is given twice with different data, "
        f"first at Contact.xml:{folder.line('Contact', -2)}.",
    )


async def test_the_same_record_twice_is_one(conn: Connection, host: PluginHost, folder: EdfiFolder) -> None:
    """Records that are repeated word for word are no contradiction, and count once."""
    await run(conn, host, folder)
    before = await everything(conn)
    for records in folder.records.values():
        records.extend(list(records))
    report = await run(conn, host, folder)
    assert (report.revision, await everything(conn)) == (None, before)
    assert {count for _, *counts in report.rows() for count in counts} == {0, 1, 2}


async def test_an_error_late_in_the_files_writes_nothing(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """XML that breaks off after thousands of good records leaves no row, and no district, behind."""
    for number in range(2, 5_000):
        folder.family(number)
    path = folder.write() / "StudentEnrollment.xml"
    path.write_text(path.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    with pytest.raises(ImportFailed, match=r"StudentEnrollment\.xml:\d+: the XML is broken") as caught:
        await import_edfi(conn, host, folder.path, code="oak")
    assert caught.value.line == 2 + len(folder.records["StudentEnrollment"])
    assert set(map(len, (await everything(conn)).values())) == {0}
    assert await conn.fetchval("select count(*) from pg_class where relname like 'import\\_%'") == 0


async def test_an_import_that_is_killed_at_its_end_writes_nothing(
    db: Pool, conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """An import waits for the district's row only when all else is done; killed there, it leaves nothing (D28)."""
    await run(conn, host, folder)
    before = await everything(conn)
    folder.family(2)
    folder.write()

    async def doomed() -> None:
        async with db.acquire() as victim:
            await import_edfi(victim, host, folder.path, code="maple")

    async with db.transaction() as holder:
        await holder.execute("select from district for no key update")
        task = asyncio.create_task(doomed())
        while not await conn.fetchval(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock' and query like '%update district set revision%'"
        ):
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await task
    assert await everything(conn) == before
    assert (await run(conn, host, folder)).revision == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"messenger": "mother"}, "no messenger choice 'mother'. Use one of primary, emergency, all."),
        ({"time_zone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'."),
    ],
)
async def test_an_unknown_choice_is_named(
    conn: Connection, host: PluginHost, folder: EdfiFolder, options: dict[str, str], problem: str
) -> None:
    """An unknown messenger choice or time zone is refused before a file is opened (D6, D8)."""
    with pytest.raises(ImportFailed) as caught:
        await import_edfi(conn, host, folder.write(), code="maple", **options)
    assert problem in caught.value.problem


async def test_a_missing_folder_or_file_is_named(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """A folder that is not there, and each file that a folder lacks, end in an error that names it."""
    with pytest.raises(ImportFailed, match="nowhere: there is no such folder"):
        await import_edfi(conn, host, folder.path / "nowhere", code="maple")
    for name in folder.records:
        (folder.write() / f"{name}.xml").unlink()
        with pytest.raises(ImportFailed, match=rf"^{name}\.xml: the folder .* lacks this file"):
            await import_edfi(conn, host, folder.path, code="maple")
