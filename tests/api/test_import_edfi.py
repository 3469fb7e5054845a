"""What the Ed-Fi import makes of each record."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.hooks.host import PluginHost
from tests.support.edfi import (
    EdfiFolder,
    contact_points,
    element,
    email,
    everything,
    homes,
    phone,
    refer,
    rows,
    run,
)  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> EdfiFolder:
    return EdfiFolder(tmp_path / "edfi")


@pytest.fixture
async def conn(db: Pool) -> AsyncIterator[Connection]:
    async with db.acquire() as conn:
        yield conn


async def test_a_family_comes_in_whole(conn: Connection, host: PluginHost, folder: EdfiFolder) -> None:
    """A new district is named after the agency; school, year, people and what ties them come in (D6)."""
    folder.family(1)
    report = await run(conn, host, folder)
    assert await rows(conn, "select code, name, time_zone, revision from district") == [
        ("maple", "Maple District", "UTC", 1)
    ]
    assert await rows(conn, "select s.source_id, s.name, school_year, start_date, end_date from school s"
                      " join calendar using (district_id, school_id)") == [
        ("1", "Maple High", 2026, date(2025, 8, 20), date(2026, 5, 29))
    ]  # fmt: skip
    assert await rows(conn, "select source_id, first_name, last_name from person order by 1") == [
        ("contact-1", "Ada", "Lane1"), ("student-1", "Sam", "Lane1"),
    ]  # fmt: skip
    assert await rows(conn, "select school_year, grade, start_date, end_date from enrollment") == [
        (2026, "09", date(2025, 8, 20), None)
    ]
    assert await rows(conn, "select kind, guardian, messenger, no_contact, end_date from relationship") == [
        ("Mother", True, True, False, None)
    ]
    counts = {kind: (added, changed, same) for kind, added, changed, same in report.rows()}
    assert counts["students"] == counts["contacts"] == counts["enrollments"] == (1, 0, 0)
    assert (report.revision, report.left_out) == (1, {})


async def test_one_number_may_stand_for_three_people(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """A student, a contact and a member of staff with the same unique id are three people."""
    folder.family(7)
    folder.person("Staff", "7", "Ann Hill", email("ann@example.org"))
    await run(conn, host, folder)
    found = await rows(conn, "select source_id, first_name from person order by 1")
    assert found == [("contact-7", "Ada"), ("staff-7", "Ann"), ("student-7", "Sam")]
    assert await contact_points(conn, "staff-7") == {"EMAIL": "ann@example.org"}


async def test_numbers_and_emails_become_contact_points(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """Mobile, Work, Home and two emails find their places (D1); every other one is left out and counted."""
    folder.family(1)
    folder.person(
        "Contact", "2", "Bea Hill",
        phone("Home", "(555) 010 0001"), phone("Mobile", "+1 555 0102"), phone("Work", "555-0103"),
        phone("Work", "555-0104"), phone("Work", "555.0103"), phone("Mobile", "none"),
        *(phone(kind, "555 0109") for kind in ("Fax", "Unlisted", "Emergency 1", "Emergency 2", "Other")),
        phone("Fax", "555 0110"),
        email("Bea@Example.org"), email("bea@example.org "), email("b2@example.org"), email("b3@example.org"),
        email("nobody"),
    )  # fmt: skip
    report = await run(conn, host, folder)
    assert await contact_points(conn, "contact-2") == {
        "HOME_PHONE": "5550100001", "CELL_PHONE": "+15550102", "WORK_PHONE": "5550103",
        "EMAIL": "bea@example.org", "SECONDARY_EMAIL": "b2@example.org",
    }  # fmt: skip
    assert report.left_out == {
        "phone numbers without digits": 1,
        "phone numbers of type Fax": 2,
        "phone numbers of type Unlisted": 1,
        "phone numbers of type Emergency 1": 1,
        "phone numbers of type Emergency 2": 1,
        "phone numbers of type Other": 1,
        "emails that are not an address": 1,
        "emails given twice for the same person": 1,
        "third and further emails of a person": 1,
        "work phones given twice for the same person": 1,
        "second and further work phones of a person": 1,
    }


async def test_the_order_of_priority_decides_between_numbers(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """Of two numbers of one type the one to call first is taken, without an order the file's first."""
    folder.person(
        "Contact", "1", "Ada Lane", phone("Work", "1"), phone("Work", "2", 2), phone("Work", "3", 1)
    )
    folder.person("Contact", "2", "Bea Hill", phone("Work", "1"), phone("Work", "2"))
    await run(conn, host, folder)
    assert await contact_points(conn, "contact-1") == {"WORK_PHONE": "3"}
    assert await contact_points(conn, "contact-2") == {"WORK_PHONE": "1"}


async def test_students_may_have_numbers_and_emails(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """What an association with an organization gives a student, in either file, is their own (D1, D7)."""
    folder.person("Student", "1", "Sam Lane")
    for file, address in (
        ("Student", phone("Home", "555 0101")),
        ("StudentEnrollment", email("sam@example.org")),
    ):
        folder.add(file, element("StudentEducationOrganizationAssociation", refer("Student", "1"), address))
    await run(conn, host, folder)
    assert await contact_points(conn, "student-1") == {"HOME_PHONE": "5550101", "EMAIL": "sam@example.org"}


async def test_home_numbers_of_those_who_live_there_are_the_households(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """The primary contact's home number is the household phone (D1, D5); another stays its owner's home phone.

    The same number given by another who lives there is left out and counted; who lives apart keeps theirs.
    """
    folder.person("Student", "1", "Sam Lane")
    for key, number in (("1", "555 0101"), ("2", "555 0102"), ("3", "555-0102"), ("4", "555 0102")):
        folder.person("Contact", key, f"Ada Lane{key}", phone("Home", number))
        folder.relate(
            "1", key, lives_with="false" if key == "4" else "true", primary="true" if key == "2" else "false"
        )
    report = await run(conn, host, folder)
    members = {"student-1", "contact-1", "contact-2", "contact-3"}
    assert await homes(conn) == {"household-1": ("Lane", "5550102", members)}
    points = [await contact_points(conn, f"contact-{key}") for key in (1, 2, 3, 4)]
    assert points == [{"HOME_PHONE": "5550101"}, {}, {}, {"HOME_PHONE": "5550102"}]
    assert report.left_out == {"home phones of other household members that repeat the household phone": 1}


async def test_households_are_joined_over_shared_contacts(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """Siblings over one contact, and theirs over another, are one household; living apart joins nobody.

    A student whom nobody lives with has none, and a missing LivesWith is living apart; both are counted.
    """
    for key, name in (
        ("3", "Sam Lane"),
        ("1", "Eve Hill"),
        ("2", "Tom Lane"),
        ("4", "Kim Moor"),
        ("5", "Lee Fell"),
    ):
        folder.person("Student", key, name)
    for key in ("11", "12", "13"):
        folder.person("Contact", key, f"Ada Lane{key}")
    for student, contact, lives in (
        ("3", "11", "true"), ("1", "11", "1"), ("1", "12", "true"), ("2", "12", "true"),
        ("4", "13", "true"), ("4", "11", "false"), ("5", "13", None),
    ):  # fmt: skip
        folder.relate(student, contact, lives_with=lives)
    report = await run(conn, host, folder)
    assert await homes(conn) == {
        "household-1": (
            "Hill / Lane",
            None,
            {"student-1", "student-2", "student-3", "contact-11", "contact-12"},
        ),
        "household-4": ("Moor", None, {"student-4", "contact-13"}),
    }
    assert report.left_out == {
        "relationships without LivesWith, imported as not living together": 1,
        "students who live with no contact, imported without a household": 1,
    }


async def test_a_household_stays_the_same_when_a_sibling_moves_in(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """A household keeps its id, and so its preferences, when a student with a smaller id joins (D5, D30)."""
    folder.family(5)
    await run(conn, host, folder)
    before = await conn.fetchval("select household_id from household")
    folder.person("Student", "2", "Kim Lane5")
    folder.relate("2", "5")
    await run(conn, host, folder)
    assert await conn.fetchval("select household_id from household") == before
    assert await homes(conn) == {"household-5": ("Lane5", None, {"student-2", "student-5", "contact-5"})}


@pytest.mark.parametrize(
    ("messenger", "expected"),
    [("primary", ["1", "3"]), ("emergency", ["2", "3"]), ("all", ["1", "2", "3", "4"])],
)
async def test_the_messenger_choice_says_who_is_written_to(
    conn: Connection, host: PluginHost, folder: EdfiFolder, messenger: str, expected: list[str]
) -> None:
    """Primary, emergency or all relationships get the messenger flag (D8)."""
    folder.person("Student", "1", "Sam Lane")
    for key in ("1", "2", "3", "4"):
        folder.person("Contact", key, f"Ada Lane{key}")
        primary, emergency = ("true" if key in keys else "false" for keys in ("13", "23"))
        folder.relate("1", key, primary=None if key == "4" else primary, emergency=emergency)
    await run(conn, host, folder, messenger=messenger)
    found = await rows(
        conn,
        "select p.source_id from relationship r join person p on p.district_id = r.district_id"
        " and p.person_id = r.contact_id where r.messenger order by 1",
    )
    assert [source_id for (source_id,) in found] == [f"contact-{key}" for key in expected]


async def test_relations_say_who_is_a_guardian(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """The relation's words make guardians unless LegalGuardian is given; restrictions are counted."""
    folder.person("Student", "1", "Sam Lane")
    legal, never = element("LegalGuardian", "true"), element("LegalGuardian", "false")
    restricted = element("ContactRestrictions", "By letter only")
    cases = [
        ("Father", ""),
        ("Aunt", ""),
        ("Grandmother", legal),
        ("Mother", never),
        ("Mother, step", restricted),
    ]
    for key, (relation, more) in enumerate(cases):
        folder.person("Contact", str(key), f"Ada Lane{key}")
        folder.relate("1", str(key), relation, more=more)
    report = await run(conn, host, folder)
    found = await rows(conn, "select kind, guardian from relationship order by contact_id")
    assert found == [
        ("Father", True), ("Aunt", False), ("Grandmother", True), ("Mother", False), ("Mother, step", False),
    ]  # fmt: skip
    assert list(report.left_out.values()) == [1]


async def test_school_years_follow_from_what_there_is(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """The year given, the calendar's in both forms, the sessions', the next, the entry date's (D6, D12)."""
    folder.session("1", "2026-2027", "2026-08-20", "2027-05-29")
    folder.school("2", "Maple Middle")
    year = element("SchoolYear", "2023-2024")
    folder.add("EducationOrgCalendar", element("Calendar", element("CalendarCode", "C"), refer("School", "1"),
                                               element("SchoolYear", "2024-2025"), id="CAL_1"))  # fmt: skip
    spelt = element("CalendarReference", element("CalendarIdentity", element("SchoolYear", "2022-2023")))
    cases = [
        ("1", "2025-09-01", year, 2024), ("1", "2025-09-01", '<CalendarReference ref="CAL_1"/>', 2025),
        ("1", "2025-09-01", spelt, 2023), ("1", "2025-12-25", "", 2026), ("1", "2027-05-29", "", 2027),
        ("1", "2026-07-10", "", 2027), ("1", "2015-03-01", "", 2026), ("1", "2027-06-30", "", 2027),
        ("2", "2019-07-01", "", 2020), ("2", "2019-06-30", "", 2019),
    ]  # fmt: skip
    for key, (school, entry, more, _) in enumerate(cases):
        folder.person("Student", f"{key:02}", f"Sam Lane{key}")
        folder.enroll(f"{key:02}", school, entry, more=more)
    report = await run(conn, host, folder)
    found = await rows(
        conn,
        "select school_year from enrollment join person using (district_id, person_id) order by source_id",
    )
    assert [year for (year,) in found] == [case[3] for case in cases]
    assert (
        report.left_out[
            "enrollments with an entry date outside every school year, assigned to the school's next year"
        ]
        == 2
    )
    assert report.left_out["enrollments without a known school year, assigned by their entry date"] == 3


async def test_assignments_are_to_schools_or_the_district(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """An assignment to no school is the district office's (D9); dates come along (D6)."""
    folder.person("Staff", "1", "Ann Hill")
    folder.assign("1", title="Principal", end="2021-06-30")
    folder.assign("1", "90")
    await run(conn, host, folder)
    found = await rows(
        conn, "select title, school_id is null, start_date, end_date from district_assignment order by 1"
    )
    assert found == [
        ("Principal", False, date(2020, 8, 1), date(2021, 6, 30)), ("Teacher", True, date(2020, 8, 1), None),
    ]  # fmt: skip


async def test_both_forms_of_reference_lead_to_the_same(
    conn: Connection, host: PluginHost, folder: EdfiFolder
) -> None:
    """A reference may be an identity or the id of a record or another reference, in any file."""
    folder.school("2", "Maple Middle", id="SCOL_2")
    folder.organization("OrganizationDepartment", "91", "Office", id="DEPT_91")
    folder.session("#SCOL_2", "2025-2026", "2025-08-20", "2026-05-29")
    for role in ("Student", "Contact", "Staff"):
        folder.person(role, "1", "Ada Lane", id=f"{role}_1")
    folder.relate("#Student_1", "#Contact_1")
    folder.enroll("#Student_1", "#SCOL_2")
    folder.assign("#Staff_1", "#SCOL_2")
    folder.assign("#Staff_1", "#DEPT_91")
    folder.add(
        "Student",
        element("StudentEducationOrganizationAssociation", refer("Student", "#SR"), phone("Work", "1")),
    )
    named = refer("Student", "1").replace("<StudentReference", '<StudentReference id="SR"')
    folder.add(
        "StudentEnrollment", element("StudentEducationOrganizationAssociation", named, email("s@example.org"))
    )
    await run(conn, host, folder)
    by_ref = {table: len(found) for table, found in (await everything(conn)).items()}
    assert (by_ref["relationship"], by_ref["enrollment"], by_ref["district_assignment"]) == (1, 1, 2)
    assert await contact_points(conn, "student-1") == {"WORK_PHONE": "1", "EMAIL": "s@example.org"}
    for name, records in folder.records.items():
        for form in ("Student", "Contact", "Staff"):
            records[:] = [r.replace(f'<{form}Reference ref="{form}_1"/>', refer(form, "1")) for r in records]
        for kind, key in (("School", "2"), ("EducationOrganization", "2")):
            records[:] = [r.replace(f'<{kind}Reference ref="SCOL_2"/>', refer(kind, key)) for r in records]
        folder.records[name] = records
    report = await run(conn, host, folder)
    assert report.revision is None
