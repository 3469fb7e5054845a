"""Writes small Ed-Fi interchange folders, for tests of the import."""

from pathlib import Path
from typing import Any

from gql_server.db.protocols import Connection
from gql_server.hooks.host import PluginHost
from gql_server.services.imports.edfi import import_edfi
from gql_server.services.imports.report import ImportReport

_NAMESPACE = "http://ed-fi.org/5.2.0"
_FILES = (
    "EducationOrganization",
    "EducationOrgCalendar",
    "Student",
    "Contact",
    "StaffAssociation",
    "StudentEnrollment",
)
_KEYS = {
    "Student": "StudentUniqueId",
    "Contact": "ContactUniqueId",
    "Staff": "StaffUniqueId",
    "School": "SchoolId",
    "EducationOrganization": "EducationOrganizationId",
}


def element(tag: str, *content: str | None, **attributes: str) -> str:
    """Return an element, on one line if its content is; None is left out."""
    names = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<{tag}{names}>{''.join(part for part in content if part is not None)}</{tag}>"


def optional(tag: str, value: str | None) -> str | None:
    return None if value is None else element(tag, value)


def descriptor(kind: str, words: str) -> str:
    return f"uri://ed-fi.org/{kind}Descriptor#{words}"


def refer(kind: str, key: str) -> str:
    """Return a reference: by `ref` where the key begins with `#`, else by identity."""
    if key.startswith("#"):
        return f'<{kind}Reference ref="{key[1:]}"/>'
    return element(f"{kind}Reference", element(f"{kind}Identity", element(_KEYS[kind], key)))


def phone(kind: str, number: str, order: int | None = None) -> str:
    return element(
        "Telephone",
        element("TelephoneNumber", number),
        element("TelephoneNumberType", descriptor("TelephoneNumberType", kind)),
        optional("OrderOfPriority", None if order is None else str(order)),
    )


def email(address: str) -> str:
    return element("ElectronicMail", element("ElectronicMailAddress", address))


class EdfiFolder:
    """An interchange folder in the making: a record a line. Begins with school `1` and its year 2025-2026."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self.records: dict[str, list[str]] = {name: [] for name in _FILES}
        self.organization("LocalEducationAgency", "90", "Maple District")
        self.school("1", "Maple High")
        self.session("1", "2025-2026", "2025-08-20", "2026-05-29")

    def write(self) -> Path:
        """Write the files and return their folder."""
        for name, records in self.records.items():
            lines = [f'<Interchange{name} xmlns="{_NAMESPACE}">', *records, f"</Interchange{name}>"]
            (self.path / f"{name}.xml").write_text("\n".join(lines), encoding="utf-8")
        return self.path

    def line(self, name: str, record: int) -> int:
        """Return the line of a file's record, counted from the end where negative."""
        return 2 + range(len(self.records[name]))[record]

    def add(self, name: str, record: str) -> None:
        self.records[name].append(record)

    def organization(self, tag: str, key: str, name: str, **attributes: str) -> None:
        record = element(tag, element("NameOfInstitution", name), element(f"{tag}Id", key), **attributes)
        self.add("EducationOrganization", record)

    def school(self, key: str, name: str, **attributes: str) -> None:
        self.organization("School", key, name, **attributes)

    def session(self, school: str, year: str, begin: str, end: str) -> None:
        parts = element("SchoolYear", year), element("BeginDate", begin), element("EndDate", end)
        self.add("EducationOrgCalendar", element("Session", *parts, refer("School", school)))

    def person(self, role: str, key: str, name: str, *addresses: str, **attributes: str) -> None:
        """Add a Student, Contact or Staff: `person("Contact", "7", "Ada Lane", phone("Home", "1"))`."""
        first, _, last = name.partition(" ")
        names = element("Name", element("FirstName", first), element("LastSurname", last))
        file = "StaffAssociation" if role == "Staff" else role
        self.add(file, element(role, element(_KEYS[role], key), names, *addresses, **attributes))

    def relate(
        self, student: str, contact: str, relation: str = "Mother", lives_with: str | None = "true",
        primary: str | None = "true", emergency: str | None = "false", more: str = "",
    ) -> None:  # fmt: skip
        self.add(
            "Contact",
            element(
                "StudentContactAssociation",
                refer("Student", student),
                refer("Contact", contact),
                element("Relation", descriptor("Relation", relation)),
                optional("PrimaryContactStatus", primary),
                optional("LivesWith", lives_with),
                optional("EmergencyContactStatus", emergency),
                more,
            ),
        )

    def enroll(
        self, student: str, school: str = "1", entry: str = "2025-08-20", grade: str = "Ninth grade",
        leave: str | None = None, more: str = "",
    ) -> None:  # fmt: skip
        self.add(
            "StudentEnrollment",
            element(
                "StudentSchoolAssociation",
                refer("Student", student),
                refer("School", school),
                element("EntryDate", entry),
                element("EntryGradeLevel", descriptor("GradeLevel", grade)),
                optional("ExitWithdrawDate", leave),
                more,
            ),
        )

    def assign(
        self, staff: str, organization: str = "1", title: str | None = None, begin: str = "2020-08-01",
        end: str | None = None,
    ) -> None:  # fmt: skip
        self.add(
            "StaffAssociation",
            element(
                "StaffEducationOrganizationAssignmentAssociation",
                refer("Staff", staff),
                refer("EducationOrganization", organization),
                element("StaffClassification", descriptor("StaffClassification", "Teacher")),
                optional("PositionTitle", title),
                element("BeginDate", begin),
                optional("EndDate", end),
            ),
        )

    def family(self, number: int = 1, *addresses: str) -> None:
        """Add a student and the mother who lives with them, both of that number, and her addresses."""
        key = str(number)
        self.person("Student", key, f"Sam Lane{key}")
        self.person("Contact", key, f"Ada Lane{key}", *addresses)
        self.relate(key, key)
        self.enroll(key)


TABLES = (
    "district", "school", "calendar", "person", "contact_point", "household", "household_member",
    "enrollment", "district_assignment", "relationship", "preference", "household_preference", "opt_out",
    "change_set", "change",
)  # fmt: skip


async def run(
    conn: Connection, host: PluginHost, folder: EdfiFolder, *, code: str = "maple", messenger: str = "primary"
) -> ImportReport:
    return await import_edfi(conn, host, folder.write(), code=code, messenger=messenger)


async def rows(conn: Connection, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in await conn.fetch(sql)]


async def everything(conn: Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {table: await rows(conn, f"select t::text from {table} t order by 1") for table in TABLES}


async def contact_points(conn: Connection, source_id: str) -> dict[str, str]:
    found = await conn.fetch(
        "select c.kind, c.value from contact_point c join person p using (district_id, person_id)"
        " where p.source_id = $1",
        source_id,
    )
    return {row["kind"]: row["value"] for row in found}


async def homes(conn: Connection) -> dict[str, tuple[str, str | None, set[str]]]:
    """Return every household by its source id: name, phone, members."""
    found = await conn.fetch(
        "select h.source_id, h.name, h.phone, array_agg(p.source_id) as members from household h"
        " join household_member m using (district_id, household_id)"
        " join person p on p.district_id = m.district_id and p.person_id = m.person_id"
        " group by h.source_id, h.name, h.phone"
    )
    return {row["source_id"]: (row["name"], row["phone"], set(row["members"])) for row in found}
