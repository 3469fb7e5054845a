"""Sources and kinds of changes in the district's history (D28)."""

from enum import StrEnum


class Source(StrEnum):
    """Where a change set comes from."""

    BATCH = "BATCH"
    ADMIN = "ADMIN"
    PORTAL = "PORTAL"
    STAFF_REQUEST = "STAFF_REQUEST"
    VENDOR = "VENDOR"
    IMPORT = "IMPORT"
    REVERT = "REVERT"


class SubjectKind(StrEnum):
    """What a change was made to. A reason is known by its bit, the others by their numbers."""

    PERSON = "PERSON"
    HOUSEHOLD = "HOUSEHOLD"
    SCHOOL = "SCHOOL"
    REASON = "REASON"


class ChangeKind(StrEnum):
    """What a change is about."""

    PREFERENCES = "PREFERENCES"
    CONTACT_POINTS = "CONTACT_POINTS"
    MEMBERSHIP = "MEMBERSHIP"
    RELATIONSHIP = "RELATIONSHIP"
    ENROLLMENT = "ENROLLMENT"
    OPT_OUT = "OPT_OUT"
    PERSON = "PERSON"
    ASSIGNMENT = "ASSIGNMENT"
    SCHOOL = "SCHOOL"
    REASON = "REASON"
