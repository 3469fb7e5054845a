"""The domain's enums as GraphQL enums, with a description on every value."""

from collections.abc import Mapping
from enum import StrEnum

import strawberry

from gql_server.domain.batch import FilterKind, PlanningStep, Setting
from gql_server.domain.changes import ChangeKind, Source
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.viewer import Role

__all__ = [
    "VALUE_DESCRIPTIONS",
    "Audience",
    "BatchStatus",
    "ChangeKind",
    "ContactPointKind",
    "FilterKind",
    "Method",
    "PlanningStep",
    "Role",
    "Setting",
    "Source",
]


class BatchStatus(StrEnum):
    QUEUED = "QUEUED"
    PLANNING = "PLANNING"
    PLANNED = "PLANNED"
    APPLYING = "APPLYING"
    DONE = "DONE"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    REVERTING = "REVERTING"
    REVERTED = "REVERTED"


class Audience(StrEnum):
    STUDENT_CONTACTS = "STUDENT_CONTACTS"
    STUDENTS = "STUDENTS"
    STAFF = "STAFF"


for enum, description in {
    ContactPointKind: "Where a person or household can be reached.",
    Method: "How a contact point is used: phones by VOICE or TEXT, emails by EMAIL.",
    Setting: "What to do with a cell.",
    Source: "Through which door a change came.",
    Role: "Whom a token stands for.",
    ChangeKind: "What a change was a change of.",
    FilterKind: "What a saved filter selects from.",
    BatchStatus: "Where a batch run stands.",
    PlanningStep: "What the plan of a batch run is at.",
    Audience: "Whom a message is for.",
}.items():
    strawberry.enum(enum, description=description)

VALUE_DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "ContactPointKind": {
        "HOUSEHOLD_PHONE": "The household's phone; its preferences hold for every active member.",
        "HOME_PHONE": "A person's home phone.",
        "WORK_PHONE": "A person's work phone.",
        "CELL_PHONE": "A person's cell phone.",
        "EMAIL": "A person's email.",
        "SECONDARY_EMAIL": "A person's second email.",
    },
    "Method": {"VOICE": "A call.", "TEXT": "A text message.", "EMAIL": "An email."},
    "Setting": {
        "NO_CHANGE": "Leave it as it is.",
        "ON": "Messages for the reason go to the contact point.",
        "OFF": "No messages for the reason go to the contact point.",
    },
    "Source": {
        "BATCH": "A batch run.",
        "ADMIN": "An administrator, for one person or household.",
        "PORTAL": "The person themselves, in the portal. The API has no such change yet.",
        "STAFF_REQUEST": "A staff member's request that was approved. The API has no such change yet.",
        "VENDOR": "A messaging vendor. The API has no such change yet.",
        "IMPORT": "An import of the district's data.",
        "REVERT": "The undoing of a batch run.",
    },
    "Role": {
        "ADMIN": "An administrator of the district.",
        "STAFF": "A member of the district's staff.",
        "GUARDIAN": "A student's contact, in the portal.",
        "STUDENT": "A student, in the portal.",
        "VENDOR": "A messaging vendor that works for the district.",
    },
    "ChangeKind": {
        "PREFERENCES": "Preferences were turned on or off.",
        "CONTACT_POINTS": "A phone or email came, went or changed.",
        "MEMBERSHIP": "A membership of a household.",
        "RELATIONSHIP": "A relationship of a student and a contact.",
        "ENROLLMENT": "An enrollment or an assignment.",
        "OPT_OUT": "A legal stop was recorded or lifted. The API has no such change yet.",
        "PERSON": "A person came or their name changed.",
    },
    "FilterKind": {
        "STUDENT": "Students, for the student modes.",
        "CENSUS": "Everyone the district knows, for the census mode.",
    },
    "BatchStatus": {
        "QUEUED": "Waits for its turn.",
        "PLANNING": "Finds whom it concerns.",
        "PLANNED": "Planned, and waits to be applied.",
        "APPLYING": "Sets preferences, chunk by chunk.",
        "DONE": "Finished.",
        "CANCELLED": "Stopped on request.",
        "FAILED": "Stopped by an error; see `errors`.",
        "REVERTING": "Undoes what it did.",
        "REVERTED": "What it did is undone.",
    },
    "PlanningStep": {
        "SELECTING_PEOPLE": "Selects the people; for a revert: reads what the run to undo has changed.",
        "FINDING_CHANNELS": "Finds their channels; counted in contact points of the matrix.",
        "ASKING_RULES": "Asks the rules; counted in channels times rules.",
        "WRITING_PLAN": "Writes down what is to be done.",
    },
    "Audience": {
        "STUDENT_CONTACTS": "The contacts whom messages about students enrolled today reach.",
        "STUDENTS": "The students enrolled today.",
        "STAFF": "People with a district assignment today.",
    },
}
