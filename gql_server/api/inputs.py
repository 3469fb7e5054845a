"""Input types, and how they become the services' values."""

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
    "How long, in seconds, to wait for the run to finish before answering with it still running;"
    f" 0 to {MAX_WAIT_SECONDS}."
)


@strawberry.input(description="What narrows the people that a mode selects.")
class BatchScope:
    school_ids: list[strawberry.ID] | None = strawberry.field(
        description=f"Only these schools, {MAX_SCHOOLS:,} at most; without them all schools.", default=None
    )
    school_year: int | None = strawberry.field(
        description="The year it ends in, for the student modes; without it the newest one with an enrollment active "
        "today.",
        default=None,
    )
    grades: list[str] | None = strawberry.field(
        description=f"Only these grades, {MAX_GRADES} at most, for the student modes; `7` and `07` are one grade.",
        default=None,
    )
    filter_id: strawberry.ID | None = strawberry.field(
        description="A saved filter of the mode's kind. A run keeps the criteria that it has now.",
        default=None,
    )

    def value(self) -> ScopeInput:
        return ScopeInput(
            school_ids=None if self.school_ids is None else tuple(map(str, self.school_ids)),
            school_year=self.school_year,
            grades=None if self.grades is None else tuple(self.grades),
            filter_id=self.filter_id,
        )


@strawberry.input(description="A cell of the matrix, and what to do with it.")
class BatchCellInput:
    contact_point: ContactPointKind = strawberry.field(description="The contact point.")
    reason: ReasonCode = strawberry.field(description="The reason.")
    set: Setting = strawberry.field(description="What to do.")


@strawberry.input(description="What to set, for whom.")
class BatchSetPreferencesInput:
    mode: ModeCode = strawberry.field(description="The mode that selects people.")
    cells: list[BatchCellInput] = strawberry.field(
        description=f"The cells to set, {MAX_CELLS:,} at most; cells not named are NO_CHANGE."
    )
    scope: BatchScope = strawberry.field(description="What narrows the mode.", default_factory=BatchScope)
    keep_chosen: bool = strawberry.field(
        description="Leave alone what people chose for themselves.", default=False
    )
    dry_run: bool = strawberry.field(
        description="Plan only: everything is counted, nothing is set; `applyBatch` then applies exactly that plan.",
        default=False,
    )
    wait_seconds: int = strawberry.field(
        description=WAIT_WORDS,
        default=WAIT_SECONDS,
    )
    idempotency_key: str | None = strawberry.field(
        description="The same key with the same input answers the same run for 24 hours, however often it is sent."
        f" Up to {IDEMPOTENCY_KEY.longest} printable characters.",
        default=None,
    )

    def value(self) -> BatchRequest:
        cells = tuple(Cell(cell.contact_point, cell.reason, cell.set) for cell in self.cells)
        return BatchRequest(
            self.mode, self.scope.value(), cells, self.keep_chosen, self.dry_run, self.idempotency_key
        )


@strawberry.input(description="One preference to set: a channel and a reason.")
class PreferenceCellInput:
    contact_point: ContactPointKind = strawberry.field(description="The contact point.")
    method: Method = strawberry.field(description="The method.")
    reason: ReasonCode = strawberry.field(description="The reason.")
    on: bool = strawberry.field(description="Whether it shall be on.")

    def value(self) -> PreferenceCell:
        return PreferenceCell(self.contact_point, self.method, self.reason, self.on)


IF_REVISION = "Refuse if the preferences were changed after this revision, which an earlier answer showed."


@strawberry.input(description="Preferences of one person to set.")
class SetPreferencesInput:
    person_id: strawberry.ID = strawberry.field(description="The person.")
    cells: list[PreferenceCellInput] = strawberry.field(
        description=f"What to set, {MAX_CELLS:,} cells at most; what is not named stays."
    )
    if_revision: Revision | None = strawberry.field(description=IF_REVISION, default=None)


@strawberry.input(description="Household phone preferences of one household to set.")
class SetHouseholdPreferencesInput:
    household_id: strawberry.ID = strawberry.field(description="The household.")
    cells: list[PreferenceCellInput] = strawberry.field(
        description=f"What to set, {MAX_CELLS:,} cells at most; what is not named stays."
    )
    if_revision: Revision | None = strawberry.field(description=IF_REVISION, default=None)


@strawberry.input(description="A filter to save under a name.")
class SaveFilterInput:
    name: str = strawberry.field(
        description=f"Its name, unique for its kind: one line of up to {FILTER_NAME.longest} characters."
    )
    kind: FilterKind = strawberry.field(description="What it selects from.")
    criteria: JSON = strawberry.field(
        description='What people must fit: {"all": [...]}, {"any": [...]}, {"not": {...}} over fields such as '
        '{"field": "grade", "in": ["09", "10"]}.'
    )
    id: strawberry.ID | None = strawberry.field(
        description="The filter to change; without it a new one is made.", default=None
    )


@strawberry.input(description="Which people to list. All that is given must fit.")
class PersonFilter:
    search: str | None = strawberry.field(
        description="Beginnings of first and last names; every word must fit one of them."
        f" Up to {MAX_SEARCH_WORDS} words and {SEARCH.longest} characters.",
        default=None,
    )
    source_id: str | None = strawberry.field(
        description="The person with this id in the district's own system.", default=None
    )
    school_id: strawberry.ID | None = strawberry.field(
        description="Enrolled or assigned there today.", default=None
    )
    grade: str | None = strawberry.field(
        description="Enrolled in this grade today; `7` and `07` are one grade.", default=None
    )
    audience: Audience | None = strawberry.field(
        description="Whom messages for this audience are for. For administrators and vendors.", default=None
    )
    without_messenger_contact: bool | None = strawberry.field(
        description="true: students enrolled today without anyone whom messages about them reach; false: those with. "
        "For administrators and vendors.",
        default=None,
    )
    ids: list[strawberry.ID] | None = strawberry.field(
        description=f"Only these, {MAX_IDS:,} at most.", default=None
    )
