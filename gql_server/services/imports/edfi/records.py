"""Maps Ed-Fi records to rows of the staging tables.

A person's source id consists of the role and the unique id: `student-604821`, `contact-778393`, `staff-207288`. Ed-Fi
numbers the three roles separately, so one number may belong to three people. Elements that this product does not
store, such as preferred names and postal addresses, are ignored. Phone numbers and email addresses that are left out
are counted.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date

from gql_server.domain.channels import ContactPointKind
from gql_server.domain.dates import SCHOOL_YEARS, end_day, parse_day, start_day
from gql_server.domain.limits import (
    DESCRIPTOR,
    EMAIL,
    INSTITUTION_NAME,
    LABEL,
    PERSON_NAME,
    PHONE,
    PHONE_DIGITS,
    UNIQUE_ID,
)
from gql_server.errors import ImportFailed
from gql_server.services.imports.edfi.words import grade, is_guardian, phone_kind, words
from gql_server.services.imports.edfi.xml import Element
from gql_server.services.imports.staging import StagingTables
from gql_server.services.imports.values import email_address, phone_number

MESSENGERS: Mapping[str, tuple[str, ...]] = {
    "primary": ("PrimaryContactStatus",),
    "emergency": ("EmergencyContactStatus",),
    "all": (),
}
"""The flags that a relationship must have to become a messenger contact (D8), by the value of the option."""

_KEYS = {
    "student": ("StudentReference", "StudentIdentity", "StudentUniqueId"),
    "contact": ("ContactReference", "ContactIdentity", "ContactUniqueId"),
    "staff": ("StaffReference", "StaffIdentity", "StaffUniqueId"),
    "school": ("SchoolReference", "SchoolIdentity", "SchoolId"),
    "organization": (
        "EducationOrganizationReference", "EducationOrganizationIdentity", "EducationOrganizationId",
    ),
}  # fmt: skip
_PEOPLE = frozenset({"student", "contact", "staff"})
_TIME_ZONE = re.compile(r"(Z|[+-]\d{2}:\d{2})$", re.ASCII)
_SCHOOL_YEAR = re.compile(r"(?:(\d{4})-)?(\d{4})", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_LAST_PRIORITY = 9_999
_MAX_OTHER_TYPES = 30
"""How many types of omitted phone numbers the report lists separately."""


class Mapper:
    """Stages records one at a time, and counts what it leaves out."""

    def __init__(self, stage: StagingTables, messenger: str) -> None:
        self._stage, self._messenger_flags = stage, MESSENGERS[messenger]
        self.left_out: Counter[str] = Counter()
        self.district_name: str | None = None

    def organization(self, record: Element) -> None:
        """Stage a school or another organization. The first local education agency gives the district its name."""
        key = record.required(f"{record.tag}Id", limit=UNIQUE_ID)
        name = record.required("NameOfInstitution", limit=INSTITUTION_NAME)
        school = record.tag == "School"
        if record.tag == "LocalEducationAgency":
            self.district_name = self.district_name or name
        self._stage.add("import_organization", key, name, school, record.file, record.line)
        for kind in ("organization", "school") if school else ("organization",):
            self._identify(record, kind, key)

    def session(self, record: Element) -> None:
        """Stage a session, a part of a school year with its first and last day."""
        dates = _start(record, "BeginDate", required=True), _end(record, "EndDate", required=True)
        self._stage.add("import_session", self._refer(record, "school"), _school_year(record), *dates)

    def calendar(self, record: Element) -> None:
        """Stage the school year of a calendar, and the id by which enrollments refer to the calendar."""
        year = _school_year(record)
        self._stage.add("import_session", self._refer(record, "school"), year, None, None)
        if name := record.attribute("id"):
            self._stage.add("import_id", "calendar", f"calendar#{name}", str(year), record.file, record.line)

    def person(self, record: Element) -> None:
        """Stage a student, a contact or a staff member, with phone numbers and email addresses."""
        role = record.tag.lower()
        key = record.required(_KEYS[role][2], limit=UNIQUE_ID)
        first_name = record.required("Name", "FirstName", limit=PERSON_NAME)
        names = first_name, record.required("Name", "LastSurname", limit=PERSON_NAME)
        self._identify(record, role, key)
        addresses = self._addresses(record, f"{role}={key}")
        content = hashlib.sha256(repr((names, addresses)).encode()).hexdigest()
        self._stage.add("import_person", role, f"{role}-{key}", *names, content, record.file, record.line)

    def student_details(self, record: Element) -> None:
        """Stage the contact points that a StudentEducationOrganizationAssociation has for a student."""
        self._addresses(record, self._refer(record, "student"))

    def relationship(self, record: Element) -> None:
        """Stage a relationship. A missing LivesWith means no. LegalGuardian takes precedence over the Relation."""
        student, contact = self._refer(record, "student"), self._refer(record, "contact")
        kind = _words(record, "Relation") or "Contact"
        lives_with, legal = _flag(record, "LivesWith"), _flag(record, "LegalGuardian")
        if lives_with is None:
            self.left_out["relationships without LivesWith, imported as not living together"] += 1
        if record.text("ContactRestrictions"):
            self.left_out["contact restrictions in free text: review these relationships by hand"] += 1
        self._stage.add(
            "import_relationship", student, contact, kind,
            is_guardian(kind) if legal is None else legal,
            all(_flag(record, flag) for flag in self._messenger_flags),
            bool(_flag(record, "PrimaryContactStatus")), bool(lives_with), record.file, record.line,
        )  # fmt: skip

    def enrollment(self, record: Element) -> None:
        """Stage an enrollment, with its school year if the record contains it."""
        student, school = self._refer(record, "student"), self._refer(record, "school")
        calendar, year = self._calendar_of(record)
        if record.text("SchoolYear"):
            year = _school_year(record)
        dates = _start(record, "EntryDate", required=True), _end(record, "ExitWithdrawDate")
        if dates[0] is None and calendar is None and year is None:
            raise record.failed(
                "the EntryDate is open, so no school year follows from it. Give the SchoolYear."
            )
        self._stage.add(
            "import_enrollment", student, school, calendar, year,
            _grade(record), *dates, record.file, record.line,
        )  # fmt: skip

    def assignment(self, record: Element) -> None:
        """Stage an assignment. Its title is the position title, or else the staff classification."""
        staff, organization = self._refer(record, "staff"), self._refer(record, "organization")
        title = record.text("PositionTitle", limit=LABEL) or _words(record, "StaffClassification")
        dates = _start(record, "BeginDate"), _end(record, "EndDate")
        self._stage.add("import_assignment", staff, organization, title, *dates, record.file, record.line)

    def _addresses(self, record: Element, person: str) -> list[tuple[str, str]]:
        """Stage the phone numbers and email addresses of a record and return them."""
        staged = []
        for position, element in enumerate(record.children):
            found = self._phone(element) if element.tag == "Telephone" else self._email(element)
            if found:
                kind, value = found
                order = element.text("OrderOfPriority") or ""
                priority = int(order) if order.isdecimal() and len(order) < 5 else _LAST_PRIORITY
                location = element.file, element.line, position
                self._stage.add("import_address", person, kind.value, value, priority, *location)
                staged.append((kind.value, value))
        return staged

    def _phone(self, element: Element) -> tuple[ContactPointKind, str] | None:
        described = _words(element, "TelephoneNumberType") or "unknown"
        kind = phone_kind(described)
        if kind is None:
            self._leave_out_phone(described)
            return None
        number = phone_number(element.text("TelephoneNumber", limit=PHONE) or "")
        if number is None:
            self.left_out["phone numbers without digits"] += 1
            return None
        if len(number.removeprefix("+")) > PHONE_DIGITS:
            raise element.failed(f"the TelephoneNumber has more than {PHONE_DIGITS} digits.")
        return kind, number

    def _leave_out_phone(self, described: str) -> None:
        """Count an omitted phone number under its type, or together with others if there are many types."""
        reason = f"phone numbers of type {described}"
        if reason not in self.left_out and len(self.left_out) > _MAX_OTHER_TYPES:
            reason = "phone numbers of further types"
        self.left_out[reason] += 1

    def _email(self, element: Element) -> tuple[ContactPointKind, str] | None:
        if element.tag != "ElectronicMail":
            return None
        if address := email_address(element.text("ElectronicMailAddress", limit=EMAIL) or ""):
            return ContactPointKind.EMAIL, address
        self.left_out["emails that are not an address"] += 1
        return None

    def _calendar_of(self, record: Element) -> tuple[str | None, int | None]:
        """Return the token of the calendar, or the school year if the reference contains the calendar's identity."""
        reference = record.find("CalendarReference")
        if reference is None:
            return None, None
        if identity := reference.find("CalendarIdentity"):
            return None, _school_year(identity)
        token = f"calendar#{_ref(reference)}"
        self._stage.add("import_use", token, reference.file, reference.line)
        return token, None

    def _refer(self, record: Element, kind: str) -> str:
        """Stage the use of a reference, by id or by identity, and return its token."""
        tag, identity, key_tag = _KEYS[kind]
        reference = record.find(tag)
        if reference is None:
            raise record.failed(f"the {record.tag} lacks its {tag}.")
        if key := reference.text(identity, key_tag, limit=UNIQUE_ID):
            token = f"{kind}={key}"
            if "id" in reference.attributes:
                self._identify(reference, kind, key)
        else:
            token = f"{kind}#{_ref(reference)}"
        self._stage.add("import_use", token, reference.file, reference.line)
        return token

    def _identify(self, element: Element, kind: str, key: str) -> None:
        """Stage the key that a record's identity, and the id in the file, stand for."""
        stands_for = f"{kind}-{key}" if kind in _PEOPLE else key
        place = element.file, element.line
        if not element.tag.endswith("Reference"):  # a reference may not vouch for what it refers to
            self._stage.add("import_id", kind, f"{kind}={key}", stands_for, *place)
        if name := element.attribute("id"):
            self._stage.add("import_id", kind, f"{kind}#{name}", stands_for, *place)


Handler = Callable[[Mapper, Element], None]
FILES: Mapping[str, Mapping[str, Handler]] = {
    "EducationOrganization.xml": dict.fromkeys(
        (
            "School", "LocalEducationAgency", "EducationServiceCenter", "StateEducationAgency",
            "OrganizationDepartment", "PostSecondaryInstitution", "EducationOrganizationNetwork",
            "CommunityOrganization", "CommunityProvider",
        ),
        Mapper.organization,
    ),
    "EducationOrgCalendar.xml": {"Session": Mapper.session, "Calendar": Mapper.calendar},
    "Student.xml": {
        "Student": Mapper.person,
        "StudentEducationOrganizationAssociation": Mapper.student_details,
    },
    "Contact.xml": {"Contact": Mapper.person, "StudentContactAssociation": Mapper.relationship},
    "StaffAssociation.xml": {
        "Staff": Mapper.person,
        "StaffEducationOrganizationAssignmentAssociation": Mapper.assignment,
    },
    "StudentEnrollment.xml": {
        "StudentSchoolAssociation": Mapper.enrollment,
        "StudentEducationOrganizationAssociation": Mapper.student_details,
    },
}  # fmt: skip
"""The files of an import, all of them required, and the handler of each kind of record."""


def _ref(reference: Element) -> str:
    if ref := reference.attribute("ref"):
        return ref
    raise reference.failed(f"the {reference.tag} has neither a `ref` nor an identity.")


def _words(record: Element, tag: str) -> str | None:
    """Return the words of a descriptor, or None if it is missing. Raises ImportFailed if they cannot be stored."""
    described = record.find(tag)
    text = record.text(tag, limit=DESCRIPTOR)
    return described.require_valid(words(text), LABEL) or None if described and text else None


def _grade(record: Element) -> str:
    record.required("EntryGradeLevel", limit=DESCRIPTOR)
    return grade(_words(record, "EntryGradeLevel") or "")


def _start(record: Element, tag: str, required: bool = False) -> date | None:
    """Return a first day, or None if it is missing or open. Raises ImportFailed."""
    return _day(record, tag, start_day, required)


def _end(record: Element, tag: str, required: bool = False) -> date | None:
    """Return a last day, or None if it is missing or open. Raises ImportFailed."""
    return _day(record, tag, end_day, required)


def _day(record: Element, tag: str, bound: Callable[[date], date | None], required: bool) -> date | None:
    text = record.required(tag) if required else record.text(tag)
    if text is None:
        return None
    try:
        day = parse_day(_TIME_ZONE.sub("", text))
    except ValueError:
        raise _unreadable(record, tag, "a date such as 2021-08-23") from None
    try:
        return bound(day)
    except ValueError as error:
        raise (record.find(tag) or record).failed(f"the {tag}: {error}") from None


def _school_year(record: Element) -> int:
    """Return the year in which a school year ends: 2022 for 2021-2022."""
    match = _SCHOOL_YEAR.fullmatch(record.required("SchoolYear"))
    if (
        match is None
        or (match[1] and int(match[1]) + 1 != int(match[2]))
        or int(match[2]) not in SCHOOL_YEARS
    ):
        raise _unreadable(record, "SchoolYear", "a school year such as 2021-2022")
    return int(match[2])


def _flag(record: Element, tag: str) -> bool | None:
    text = record.text(tag)
    if text is not None and text not in _BOOLEANS:
        raise _unreadable(record, tag, "true or false")
    return None if text is None else _BOOLEANS[text]


def _unreadable(record: Element, tag: str, wanted: str) -> ImportFailed:
    element = record.find(tag) or record
    return element.failed(f"the {tag} {element.content.strip()[:40]!r} is not {wanted}.")
