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
    ContactPointKind: "The contact points: the phones and emails at which a person or household can be reached.",
    Method: "How a message is sent to a contact point: to phones by VOICE or TEXT, to emails by EMAIL.",
    Setting: "What a batch does with a cell.",
    Source: "The way by which a change or an opt-out was made.",
    Role: "The role of a token, which decides what it may read and change.",
    ChangeKind: "The kind of data that a change concerns.",
    FilterKind: "The people that a saved filter selects from.",
    BatchStatus: "The status of a batch run.",
    PlanningStep: "The steps of planning a batch run, in their order.",
    Audience: "The people that a message is meant for.",
}.items():
    strawberry.enum(enum, description=description)

VALUE_DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "ContactPointKind": {
        "HOUSEHOLD_PHONE": "The phone of a household. Its preferences apply to every active member.",
        "HOME_PHONE": "A person's home phone.",
        "WORK_PHONE": "A person's work phone.",
        "CELL_PHONE": "A person's cell phone.",
        "EMAIL": "A person's email.",
        "SECONDARY_EMAIL": "A person's secondary email.",
    },
    "Method": {"VOICE": "A phone call.", "TEXT": "A text message.", "EMAIL": "An email."},
    "Setting": {
        "NO_CHANGE": "Leave the preferences as they are.",
        "ON": "Turn the preferences on: messages for the reason are sent to the contact point.",
        "OFF": "Turn the preferences off: messages for the reason are not sent to the contact point.",
    },
    "Source": {
        "BATCH": "A batch run.",
        "ADMIN": "An administrator, for one person or household.",
        "PORTAL": "The person themselves, in the portal. No mutation makes such changes yet.",
        "STAFF_REQUEST": "An approved request of a staff member. No mutation makes such changes yet.",
        "VENDOR": "A messaging vendor. No mutation makes such changes yet.",
        "IMPORT": "An import of the district's data.",
        "REVERT": "The revert of a batch run.",
    },
    "Role": {
        "ADMIN": "An administrator of the district.",
        "STAFF": "A staff member of the district, in the portal.",
        "GUARDIAN": "A student's contact, such as a parent, in the portal.",
        "STUDENT": "A student, in the portal.",
        "VENDOR": "A messaging vendor that delivers messages for the district.",
    },
    "ChangeKind": {
        "PREFERENCES": "Preferences were turned on or off, or only became or ceased to be somebody's own choice, as "
        "by a revert.",
        "CONTACT_POINTS": "A phone or email was added, changed or removed.",
        "MEMBERSHIP": "A membership of a household was added, changed or removed.",
        "RELATIONSHIP": "A relationship between a student and a contact was added, changed or removed.",
        "ENROLLMENT": "An enrollment was added, changed or removed.",
        "OPT_OUT": "An opt-out was recorded or lifted. No mutation makes such changes yet.",
        "PERSON": "A person was added, or their name changed.",
        "ASSIGNMENT": "A district assignment was added, changed or removed.",
        "SCHOOL": "A school or one of its school years was added or changed.",
        "REASON": "A contact reason was added or reworded.",
    },
    "FilterKind": {
        "STUDENT": "Students. For the modes that select by students.",
        "CENSUS": "All people of the district. For CENSUS_STAFF and similar modes.",
    },
    "BatchStatus": {
        "QUEUED": "The run waits until it can start. One run at a time works in a district.",
        "PLANNING": "The run determines which preferences to set.",
        "PLANNED": "The plan is complete, and waits for `applyBatch`.",
        "APPLYING": "The run sets preferences, in chunks of people.",
        "DONE": "The run has set all preferences that it was to set.",
        "CANCELLED": "The run was cancelled.",
        "FAILED": "The run was stopped by an error; see `errors`.",
        "REVERTING": "The run is being undone by another run.",
        "REVERTED": "The run was undone by another run.",
    },
    "PlanningStep": {
        "SELECTING_PEOPLE": "Selects the people. For a revert: reads what the run to undo has changed.",
        "FINDING_CHANNELS": "Finds the channels of the people. Progress is counted in contact points of the matrix.",
        "ASKING_RULES": "Asks the rules about each channel. Progress is counted in channels times rules.",
        "WRITING_PLAN": "Stores the plan.",
    },
    "Audience": {
        "STUDENT_CONTACTS": "Contacts of students who are enrolled today. The relationship must be active, have the "
        "messenger flag, and not be marked no-contact.",
        "STUDENTS": "Students who are enrolled today.",
        "STAFF": "People who have a district assignment today.",
    },
}
