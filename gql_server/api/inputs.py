"""Input types, and their conversion to the values that services take."""

import strawberry

from gql_server.api.enums import Audience, ContactPointKind, FilterKind, Method, Setting
from gql_server.api.scalars import JSON, ModeCode, ReasonCode, Revision
from gql_server.domain.batch import Cell
from gql_server.domain.limits import (
    FILTER_NAME,
    IDEMPOTENCY_KEY,
    MAX_CELLS,
    MAX_GRADES,
    MAX_IDS,
    MAX_SCHOOLS,
    MAX_SEARCH_WORDS,
    SEARCH,
)
from gql_server.services.batch.request import MAX_WAIT_SECONDS, WAIT_SECONDS, BatchRequest, ScopeInput
from gql_server.services.preferences import PreferenceCell

WAIT_WORDS = (
    "How many seconds the response may wait for the run to finish. If it takes longer, the response shows the run"
    f" in progress. From 0 to {MAX_WAIT_SECONDS}."
)


@strawberry.input(
    name="BatchScope",
    description="Narrows the people that a mode selects. All fields that are given must match.",
)
class BatchScopeInput:
    school_ids: list[strawberry.ID] | None = strawberry.field(
        description="For the student modes, only enrollments in these schools; for CENSUS_STAFF, only assignments to "
        f"them. At most {MAX_SCHOOLS:,} ids. Null means all schools.",
        default=None,
    )
    school_year: int | None = strawberry.field(
        description="For the student modes only: the school year, as the year that it ends in (2027 is 2026-2027). "
        "Null means the newest school year with an enrollment that is active today.",
        default=None,
    )
    grades: list[str] | None = strawberry.field(
        description=f"For the student modes only: the grades, {MAX_GRADES} at most. `7` and `07` are the same grade. "
        "Null means all grades.",
        default=None,
    )
    filter_id: strawberry.ID | None = strawberry.field(
        description="The id of a saved filter of the kind that the mode takes. The run uses the criteria that the "
        "filter has now, even if it is changed later.",
        default=None,
    )

    def to_scope(self) -> ScopeInput:
        return ScopeInput(
            school_ids=None if self.school_ids is None else tuple(map(str, self.school_ids)),
            school_year=self.school_year,
            grades=None if self.grades is None else tuple(self.grades),
            filter_id=self.filter_id,
        )


@strawberry.input(
    description="A cell of the matrix (a contact point and a contact reason), and what to do with it. A batch sets "
    "phones by VOICE and emails by EMAIL; it never changes TEXT."
)
class BatchCellInput:
    contact_point: ContactPointKind = strawberry.field(description="The contact point.")
    reason: ReasonCode = strawberry.field(description="The contact reason.")
    set: Setting = strawberry.field(description="Whether to turn the cell on, turn it off, or not change it.")


@strawberry.input(description="The preferences to set in a batch, and the people to set them for.")
class BatchSetPreferencesInput:
    mode: ModeCode = strawberry.field(description="The mode that selects the people.")
    cells: list[BatchCellInput] = strawberry.field(
        description=f"The cells to set, {MAX_CELLS:,} at most. Cells that are not named are NO_CHANGE."
    )
    scope: BatchScopeInput = strawberry.field(
        description="Narrows the people that the mode selects.", default_factory=BatchScopeInput
    )
    keep_chosen: bool = strawberry.field(
        description="Whether to leave those cells unchanged that people have set for themselves.",
        default=False,
    )
    dry_run: bool = strawberry.field(
        description="Whether to plan only: everything is counted and nothing is set. `applyBatch` can apply the plan.",
        default=False,
    )
    wait_seconds: int = strawberry.field(
        description=WAIT_WORDS,
        default=WAIT_SECONDS,
    )
    idempotency_key: str | None = strawberry.field(
        description="A key that makes it safe to send the mutation again. For 24 hours the same key with the same "
        "input returns the same run, and starts no other. Up to "
        f"{IDEMPOTENCY_KEY.longest} printable characters.",
        default=None,
    )

    def to_request(self) -> BatchRequest:
        cells = tuple(Cell(cell.contact_point, cell.reason, cell.set) for cell in self.cells)
        return BatchRequest(
            self.mode, self.scope.to_scope(), cells, self.keep_chosen, self.dry_run, self.idempotency_key
        )


@strawberry.input(
    description="One preference to set: a contact point and a method (together a channel), and a contact reason."
)
class PreferenceCellInput:
    contact_point: ContactPointKind = strawberry.field(description="The contact point.")
    method: Method = strawberry.field(
        description="The method: VOICE or TEXT for a phone, EMAIL for an email."
    )
    reason: ReasonCode = strawberry.field(description="The contact reason.")
    on: bool = strawberry.field(description="Whether the preference is to be on (true) or off (false).")

    def to_cell(self) -> PreferenceCell:
        return PreferenceCell(self.contact_point, self.method, self.reason, self.on)


IF_REVISION = (
    "Reject the input with STALE_REVISION if the preferences were changed after this revision. Null means that they "
    "are set in any case. `headRevision`, read together with the preferences, is such a revision."
)


@strawberry.input(description="The preferences to set for one person.")
class SetPreferencesInput:
    person_id: strawberry.ID = strawberry.field(description="The id of the person.")
    cells: list[PreferenceCellInput] = strawberry.field(
        description=f"The preferences to set, {MAX_CELLS:,} at most. All others stay as they are."
    )
    if_revision: Revision | None = strawberry.field(description=IF_REVISION, default=None)


@strawberry.input(description="The preferences to set for the phone of one household.")
class SetHouseholdPreferencesInput:
    household_id: strawberry.ID = strawberry.field(description="The id of the household.")
    cells: list[PreferenceCellInput] = strawberry.field(
        description=f"The preferences to set, {MAX_CELLS:,} at most. All others stay as they are."
    )
    if_revision: Revision | None = strawberry.field(description=IF_REVISION, default=None)


@strawberry.input(description="A filter to save under a name.")
class SaveFilterInput:
    name: str = strawberry.field(
        description="The name, which must be unique for the kind: one line of up to "
        f"{FILTER_NAME.longest} characters."
    )
    kind: FilterKind = strawberry.field(description="The people that the filter selects from.")
    criteria: JSON = strawberry.field(
        description='The conditions that people must meet: {"all": [...]}, {"any": [...]} and {"not": {...}} over '
        'conditions on fields such as {"field": "grade", "in": ["09", "10"]}.'
    )
    id: strawberry.ID | None = strawberry.field(
        description="The id of the saved filter to change. Null means that a new one is created.",
        default=None,
    )


@strawberry.input(
    description="Selects people. All fields that are given must match.",
)
class PersonFilter:
    search: str | None = strawberry.field(
        description="Words, each of which must be the beginning of the first or the last name."
        f" Up to {MAX_SEARCH_WORDS} words and {SEARCH.longest} characters.",
        default=None,
    )
    source_id: str | None = strawberry.field(
        description="The person's id in the district's own system.", default=None
    )
    school_id: strawberry.ID | None = strawberry.field(
        description="The id of a school where the people are enrolled or assigned today.", default=None
    )
    grade: str | None = strawberry.field(
        description="A grade in which the people are enrolled today. `7` and `07` are the same grade.",
        default=None,
    )
    audience: Audience | None = strawberry.field(
        description="The people that messages for this audience are meant for. For administrators and vendors only.",
        default=None,
    )
    without_messenger_contact: bool | None = strawberry.field(
        description="true selects the students enrolled today who have no contact that receives messages about them; "
        "false selects those who have one. For administrators and vendors only.",
        default=None,
    )
    ids: list[strawberry.ID] | None = strawberry.field(
        description=f"The ids of the people, {MAX_IDS:,} at most. Unknown ids are ignored.", default=None
    )
