"""Whatever stands in the files of an import is taken, or refused with file and line and with nothing written."""

import os
import re
from collections.abc import AsyncIterator
from datetime import date, timedelta
from html import escape
from pathlib import Path

import pytest

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.db.statements import resource_folder
from gql_server.domain.dates import FIRST_DAY, LAST_DAY
from gql_server.errors import ImportFailed
from gql_server.hooks.host import PluginHost
from gql_server.services.imports.edfi import import_edfi
from tests.support.builder import DistrictBuilder
from tests.support.edfi import EdfiFolder, contact_points, email, everything, phone, rows, run
from tests.support.hostile import HUGE

_LEAF = re.compile(r">(?P<text>[^<>]+)</|(?:id|ref)=\"(?P<attribute>[^\"]+)\"")
_ALL = "GQL_SERVER_TEST_EXAMPLES" in os.environ
TEXTS = {
    "one letter": "x",
    "lines": "one\ntwo",
    "a control character": "one\u0085two",
    "a line separator": "one\u2028two",
    "right to left": "\u202eevil \u0627\u0644\u0639",
    "emoji": "👩‍🏫🏽 ada@example.org 5",
    "SQL": "'; drop table person cascade; -- {parent} :district_id",
    "markup": "]]> <a/> & \" '",
    "tokens": "student=1#2|3",
    "somewhat long": "y" * 101,
    "huge": "x@" + "9" * HUGE,
    "beyond a record": "z" * 1_100_000,
    "an open end": "9999-12-31",
    "an open start": "0001-01-01",
    "a day long ago": "1066-10-14",
    "no year": "0000",
    "many digits": "1" * 5_000,
}


@pytest.fixture
def folder(tmp_path: Path) -> EdfiFolder:
    """A folder with everything that the import reads, references in both forms among it."""
    folder = EdfiFolder(tmp_path / "edfi")
    folder.add(
        "EducationOrgCalendar",
        '<Calendar id="CAL_1"><SchoolYear>2025-2026</SchoolYear><SchoolReference><SchoolIdentity>'
        "<SchoolId>1</SchoolId></SchoolIdentity></SchoolReference></Calendar>",
    )
    folder.person("Student", "1", "Sam Lane", phone("Mobile", "555 0100", 1), id="STU_1")
    folder.person("Contact", "1", "Ada Lane", phone("Home", "555 0101"), phone("Fax", "5"), email("a@b.org"))
    folder.relate("#STU_1", "1")
    folder.enroll("1", leave="2026-05-29", more='<CalendarReference ref="CAL_1"/>')
    folder.person("Staff", "1", "Ann Hill")
    folder.assign("1", title="Teacher", end="2026-06-30")
    return folder


@pytest.fixture
async def conn(db: Pool) -> AsyncIterator[Connection]:
    async with db.acquire() as conn:
        yield conn


def _places(folder: EdfiFolder) -> list[tuple[str, int, tuple[int, int]]]:
    """Return every text and every reference of the records: the file, the record, and where it stands in it."""
    return [
        (name, number, match.span(match.lastgroup or 0))
        for name, records in folder.records.items()
        for number, record in enumerate(records)
        for match in _LEAF.finditer(record)
    ]


async def _try(conn: Connection, host: PluginHost, folder: EdfiFolder) -> ImportFailed | None:
    """Import, look, and roll back. Return the error, after seeing that it names its place and left no row."""
    failed = None
    transaction = conn.transaction()
    await transaction.start()
    try:
        await run(conn, host, folder)
    except ImportFailed as error:
        failed = error
    if failed is not None:
        assert (failed.file.endswith(".xml"), failed.line is not None) == (True, True), failed
        assert 10 < len(str(failed)) < 600, failed
        assert await conn.fetchval("select count(*) from district") == 0, failed
    await transaction.rollback()
    return failed


@pytest.mark.slow
async def test_no_text_breaks_an_import(conn: Connection, host: PluginHost, folder: EdfiFolder) -> None:
    """A text in a place of the files: a clean import, or an error with file and line, and no row (D30).

    Every place and every text are tried; all pairs of them where GQL_SERVER_TEST_EXAMPLES is set.
    """
    texts, outcomes = list(TEXTS.values()), set()
    for n, (name, number, (start, end)) in enumerate(_places(folder)):
        record = folder.records[name][number]
        for text in texts if _ALL else [texts[n % len(texts)]]:
            folder.records[name][number] = record[:start] + escape(text) + record[end:]
            outcomes.add(await _try(conn, host, folder) is None)
        folder.records[name][number] = record
    assert outcomes == {True, False}


_KEPT = {
    "a newline in an email": (lambda f: f.family(2, email("ada\nlane@example.org")), "one line"),
    "an email of a megabyte": (lambda f: f.family(2, email("a" * 900_000 + "@example.org")), "at most 254"),
    "a phone of a million digits": (lambda f: f.family(2, phone("Home", "5" * 900_000)), "at most 60"),
    "a phone of 21 digits": (lambda f: f.family(2, phone("Home", "5" * 21)), "more than 20 digits"),
    "a newline in a name": (lambda f: f.person("Contact", "2", "Ada La\nne"), "one line"),
    "a name of 101 characters": (lambda f: f.person("Contact", "2", f"Ada {'e' * 101}"), "at most 100"),
    "an id of 101 characters": (lambda f: f.person("Contact", "2" * 101, "Ada Lane"), "at most 100"),
    "a long kind of relationship": (lambda f: f.relate("1", "1", "M" * 101), "at most 100"),
    "a long descriptor": (lambda f: f.relate("1", "1", "M" * 400), "at most 306"),
    "a long reference": (lambda f: f.relate("1", "#" + "r" * 201), "at most 200"),
}


async def test_what_is_kept_has_a_length_and_one_line(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """What is too long, or not one line, is refused with its line before PostgreSQL sees it (protects imports)."""
    good = {name: list(records) for name, records in folder.records.items()}
    line = folder.line("Contact", -1) + 1
    for what, (edit, problem) in _KEPT.items():
        edit(folder)
        failed = await _try(conn, host, folder)
        assert failed is not None, what
        assert (failed.file, failed.line) == ("Contact.xml", line), what
        assert problem in failed.problem, what
        folder.records = {name: list(records) for name, records in good.items()}


async def test_the_longest_that_is_allowed_is_kept(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """Ids, names and addresses as long as they may be, of signs of four bytes, fit every index (protects imports)."""
    key, name = "😀" * 100, "😀" * 100
    folder.person("Student", key, f"{name} {name}", phone("Home", f"{'5' * 20}{'-' * 40}"))
    folder.person("Contact", key, f"{name} {name}", email(f"{'a' * 242}@example.org"))
    folder.relate(key, key, "r" * 100)
    folder.enroll(key, grade="g" * 100)
    folder.school("s" * 100, "😀" * 200)
    assert (await run(conn, host, folder)).revision is not None
    assert await contact_points(conn, f"student-{key}") == {"HOME_PHONE": "5" * 20}


async def test_open_ends_are_open(conn: Connection, host: PluginHost, folder: EdfiFolder) -> None:
    """0001-01-01 is an open start and 9999-12-31 an open end (D6), and the same import again changes nothing."""
    folder.enroll("1", entry="0001-01-01", leave="9999-12-31", more="<SchoolYear>2025-2026</SchoolYear>")
    folder.assign("1", title="Coach", begin="0001-01-01", end="9999-12-31")
    folder.session("1", "2026-2027", "0001-01-01", "9999-12-31")
    assert (await run(conn, host, folder)).revision == 1
    spans = [(None, None), (date(2025, 8, 20), date(2026, 5, 29))]
    assert await rows(conn, "select start_date, end_date from enrollment order by 1 nulls first") == spans
    coach = "select start_date, end_date from district_assignment where title = 'Coach'"
    year = "select start_date, end_date from calendar where school_year = 2027"
    assert await rows(conn, coach) == await rows(conn, year) == [(None, None)]
    assert (await run(conn, host, folder)).revision is None


async def test_days_out_of_range_are_refused(conn: Connection, host: PluginHost, folder: EdfiFolder) -> None:
    """Any other day outside 1900 to 2199 is refused in words, and so is an open end as a start (D6)."""
    for begin, end in (
        ("9999-12-31", None), ("1899-12-31", None), ("2020-01-01", "0001-01-01"), ("2020-01-01", "2200-01-01")
    ):  # fmt: skip
        folder.assign("1", title="Coach", begin=begin, end=end)
        failed = await _try(conn, host, folder)
        assert failed is not None
        assert "is out of range. A day is from 1900-01-01 to 2199-12-31" in failed.problem
        folder.records["StaffAssociation"].pop()


async def test_an_open_entry_needs_its_school_year(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """No school year follows from an open entry: it is asked for, with the line of the enrollment (D12)."""
    folder.enroll("1", entry="0001-01-01")
    failed = await _try(conn, host, folder)
    assert failed is not None
    assert (failed.line, failed.problem.endswith("Give the SchoolYear.")) == (
        folder.line("StudentEnrollment", -1),
        True,
    )


async def test_infinite_days_on_record_become_open_ones(conn: Connection, host: PluginHost) -> None:
    """The migration turns what was kept as infinite into open, and moves no day on which somebody is active (D6)."""
    builder = await DistrictBuilder.create(conn, host)
    school, person = await builder.school(), await builder.person()
    migration = (resource_folder("sql") / "migrations" / "0007_days.sql").read_text(encoding="utf-8")
    for table in re.findall(r"alter table (\w+)", migration):
        await conn.execute(f"alter table {table} drop constraint {table}_start, drop constraint {table}_end")
    for dates in (
        (date.min, date.max),
        (date.max, None),
        (None, date.min),
        (date(1850, 1, 1), date(2300, 1, 1)),
    ):
        await builder.enroll(person, school, dates=dates)
    assert await conn.fetchval("select count(*) from enrollment where not isfinite(start_date)") == 2
    await conn.execute(migration)
    assert await rows(conn, "select start_date, end_date from enrollment order by enrollment_id") == [
        (None, None),
        (LAST_DAY, None),
        (None, FIRST_DAY),
        (None, None),
    ]
    for day in (FIRST_DAY - timedelta(days=1), LAST_DAY + timedelta(days=1), date.min, date.max):
        for dates in ((day, None), (None, day)):
            with pytest.raises(Exception, match="violates check constraint"):
                await builder.enroll(person, school, dates=dates)


async def test_what_postgresql_refuses_all_the_same_is_told_without_its_words(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """A refusal that no check foresaw is an error of the import, without SQL and data (protects people's data)."""
    await conn.execute("alter table person add constraint no_lane check (last_name <> 'Lane')")
    before = await everything(conn)
    with pytest.raises(ImportFailed) as caught:
        await run(conn, host, folder)
    assert caught.value.problem == (
        "the database refused a record that does not fit the others (SQLSTATE 23514). Nothing was written."
    )
    assert await everything(conn) == before


@pytest.mark.parametrize(
    ("code", "problem"),
    [("", "is empty"), ("a\0b", "U+0000"), ("\udcff", "U+DCFF"), ("x" * 101, "at most 100")],
)
async def test_a_district_needs_a_code_that_can_be_kept(
    conn: Connection, host: PluginHost, folder: EdfiFolder, code: str, problem: str
) -> None:
    """An empty code, a huge one and one that PostgreSQL cannot hold are refused before a file is opened."""
    with pytest.raises(ImportFailed, match=re.escape(problem)):
        await run(conn, host, folder, code=code)


@pytest.mark.parametrize("name", ["x" * 5_000, "a\0b"])
async def test_a_folder_that_cannot_be_looked_at_is_refused(
    conn: Connection, host: PluginHost, name: str
) -> None:
    """A path that the system does not take is an error in words."""
    with pytest.raises(ImportFailed, match="there is no such folder"):
        await import_edfi(conn, host, Path(name), code="maple")
