"""Types for batches: contact reasons, modes, options, runs and their results; also saved filters and plug-ins."""

import datetime
from typing import Annotated, Optional, TypeAlias

import strawberry

from gql_server.api.enums import BatchStatus, ContactPointKind, FilterKind, PlanningStep, Setting
from gql_server.api.fields import LINK, After, First, column, linked, linked_with_arguments
from gql_server.api.filter_matches import matches_slots
from gql_server.api.scalars import JSON, ModeCode, ReasonCode
from gql_server.api.types.common import Node, RelayConnection
from gql_server.api.types.people import HOUSEHOLD, PERSON, Household, Person
from gql_server.domain.reasons import MAX_REASONS
from gql_server.reads.cursors import page_size
from gql_server.reads.links import Args, ConnectionLink, ExpressionLink, RowsLink, SortKey

_MATRIX_CELLS = MAX_REASONS * len(ContactPointKind)
_OF_RUN = "{child}.batch_run_id = {parent}.batch_run_id"
_HAS_FORECAST = (
    "exists (select from batch_forecast f"
    " where f.district_id = :district_id and f.batch_run_id = {parent}.batch_run_id)"
)


@strawberry.type(
    description="A contact reason: why a message is sent. The reasons are the columns of the matrix in which an "
    "administrator sets preferences; the contact points are its rows."
)
class ContactReason:
    code: ReasonCode = column("The code of the reason.")
    label: str = column("The name of the reason, for people.")
    description: str = column("What messages for this reason are about.")
    plugin: str = column("The plug-in that defines the reason.")


@strawberry.type(description="A batch mode: a way to select people.")
class BatchMode:
    code: ModeCode = column("The code of the mode.")
    label: str = column("The name of the mode, for people.")
    description: str = column("The people that the mode selects.")
    filter_kind: FilterKind = column("The kind of saved filters that the mode takes.")
    filter_required: bool = column("Whether the mode needs a saved filter.")
    plugin: str = column("The plug-in that defines the mode.")


@strawberry.type(
    description="One cell of the matrix (a contact point and a contact reason), and whether a batch may set it."
)
class BatchCellOption:
    contact_point: ContactPointKind = column("The contact point.")
    reason: ReasonCode = column("The contact reason.")
    enabled: bool = column("Whether a batch may set the cell.")
    because: str | None = column("Why a batch may not set the cell, in words; null if it may.")
    reachable: int = column(
        "The number of selected people who have the contact point on record; for the household phone, the number of "
        "their households that have one."
    )


@strawberry.type(
    description="What a batch with a mode and scope could set: the people, and each cell of the matrix."
)
class BatchOptions:
    population: int = column("The number of people that the mode and scope select.")
    cells: list[BatchCellOption] = linked(
        RowsLink(
            "batch_cell_option",
            order="{child}.contact_point, {child}.bit",
            max_rows=_MATRIX_CELLS,
            naturally_bounded=True,
        ),
        "The cells, in the order of the matrix.",
    )


@strawberry.type(
    description="The progress of planning a run. If another server takes the run over, planning starts again."
)
class BatchPlanning:
    step: PlanningStep = column("The current step.")
    done: int = column("How much of the step is done, in the unit of the step.")
    total: int = column("The size of the step, in the same unit; 0 if it is not known.")


@strawberry.type(
    description="The progress of a run, counted in people and, for the household phone, in households."
)
class BatchProgress:
    done: int = column("The number of people and households that are done.")
    total: int = column("The number of people and households in all; 0 until the run is planned.")
    planning: BatchPlanning | None = linked(
        RowsLink("batch_planning", _OF_RUN), "The progress of planning; null unless the run is PLANNING."
    )


@strawberry.type(
    description="One cell of the matrix. In `results`, what the run has done so far; in `forecast`, what its plan "
    "would do. Preferences are counted for people, and those of the household phone for households. All counts are "
    "null if the cell is NO_CHANGE. In `results` they are 0 until the run sets preferences."
)
class BatchCellResult:
    contact_point: ContactPointKind = column("The contact point.")
    reason: ReasonCode = column("The contact reason.")
    set: Setting = column("The setting that was requested for the cell.")
    updated: int | None = column("The number of preferences that were changed.")
    unchanged: int | None = column(
        "The number of preferences that already were as requested; for a revert, as they were before the run."
    )
    overwrote_chosen: int | None = column(
        "The number of preferences in `updated` that people had chosen for themselves."
    )
    kept_chosen: int | None = column(
        "The number of preferences that were not changed because people had chosen them and `keepChosen` is true."
    )
    excluded: int | None = column(
        "The number of preferences that a rule excluded. It covers the whole run, and is known as soon as the run "
        "starts to set preferences."
    )
    left_alone: int | None = column(
        "The number of preferences that were not changed because somebody set them in the meantime: when a plan is "
        "applied, the people themselves since it was made; for a revert, anybody since the run that it undoes."
    )
    people_affected: int | None = column(
        "For the household phone, the number of active members of the changed households; for other contact points, "
        "the same as `updated`."
    )


@strawberry.type(description="A person or household that a rule excluded from a cell.")
class BatchExclusion:
    person: Person | None = linked(PERSON, "The person; null if the contact point is the household phone.")
    household: Household | None = linked(
        HOUSEHOLD, "The household, if the contact point is the household phone; else null."
    )
    contact_point: ContactPointKind = column("The contact point.")
    reason: ReasonCode = column("The contact reason.")
    rule: str = column("The rule: the names of its plug-in and of the rule.")
    code: str = column(
        "Why the rule excluded them, for programs: a stable code of the rule, such as `NO_CONTACT`."
    )
    because: str = column("Why the rule excluded them, in the rule's words.")
    remedy: str | None = column(
        "What could be done about it, in the rule's words; null if the rule does not say."
    )


@strawberry.type(description="How much one rule excluded from a run, over all cells.")
class BatchExcludedByRule:
    rule: str = column("The rule: the names of its plug-in and of the rule.")
    code: str = column(
        "Why the rule excludes, for programs. The codes in `exclusions` may differ from person to person."
    )
    because: str = column(
        "Why the rule excludes, in the rule's words. The words in `exclusions` may differ from person to person."
    )
    remedy: str | None = column(
        "What could be done about it, in the rule's words; null if the rule does not say."
    )
    excluded: int = column("The number of preferences that the rule excluded.")


@strawberry.type(description="A cell that a plan would change for a person or household.")
class BatchSampleCell:
    contact_point: ContactPointKind = column("The contact point.")
    reason: ReasonCode = column("The contact reason.")
    set: Setting = column("The setting that the plan would give it.")


@strawberry.type(description="An example of the people and households that a plan would change.")
class BatchSample:
    person: Person | None = linked(PERSON, "The person; null if the example is a household.")
    household: Household | None = linked(HOUSEHOLD, "The household, if the example is one; else null.")
    cells: list[BatchSampleCell] = linked(
        RowsLink(
            "batch_sample_cell",
            f"{_OF_RUN} and {{child}}.place = {{parent}}.place",
            "{child}.contact_point, {child}.bit",
            max_rows=_MATRIX_CELLS,
            naturally_bounded=True,
        ),
        "The cells that the plan would change.",
    )


@strawberry.type(
    description="The difference between a plan and what was done when it was applied: what was left out, and why."
)
class BatchDifference:
    left_population: int = column(
        "The number of people and households in the plan that the mode and scope did not select any more."
    )
    chose_since: int = column(
        "The number of preferences that people set for themselves after the plan was made. They were not changed. A "
        "choice of which the plan told in `overwroteChosen` is overwritten, even if it was made again."
    )
    excluded_since: int = column(
        "The number of preferences that a rule excluded only after the plan was made."
    )
    outdated: bool = column("Whether the plan was older than the server allows: a day, unless set otherwise.")


_RUN_SAMPLES = RowsLink(
    "batch_sample",
    f"{_OF_RUN} and {{child}}.place <= :first::integer",
    "{child}.place",
    lambda args, context: {"first": page_size(args.get("first"), 10, context.max_first)},
    max_rows=25,
)


def _run(column_name: str) -> RowsLink:
    """Return the link to the run whose internal id is in a column of this one."""
    return RowsLink("batch_run", f"{{child}}.batch_run_id = {{parent}}.{column_name}")


MAX_EXCLUSIONS = 10_000
"""The maximum of `first` for exclusions: they are many, and small."""


def _exclusions_of_run(args: Args) -> str:
    """Return the condition for the exclusions of a run, in the few blocks that a page can reach.

    Each block has at least one exclusion. So after the block of `after` a page reaches no more blocks than it has rows,
    and of these it reads only as many as fill it.
    """
    after = "true" if args.get("after") is None else "b.block >= :after_0::integer"
    return f"""{_OF_RUN} and {{child}}.block = any(array(
  select block from (
    select block,
      sum(cells) over (order by block rows between unbounded preceding and 1 preceding)
      - first_value(cells) over (order by block) as cells_between
    from (
      select b.block, b.subjects * bit_count(b.reasons::bit(64)) as cells
      from batch_exclusion_block b
      where b.district_id = :district_id and b.batch_run_id = {{parent}}.batch_run_id and b.reasons <> 0
        and {after}
      order by b.block limit :first::bigint + 2
    ) blocks
  ) blocks
  where cells_between is null or cells_between <= :first::bigint))"""


_ExclusionsFirst: TypeAlias = Annotated[
    int | None,
    strawberry.argument(
        description=f"The maximum number of rows to return, from 1 to {MAX_EXCLUSIONS:,}. Null means the default of 50."
    ),
]


@strawberry.type(description="One run of a batch: what was requested, its progress, and its results.")
class BatchRun(Node):
    mode: ModeCode = column("The mode that selects the people.")
    status: BatchStatus = column("The status of the run.")
    dry_run: bool = column("Whether the run was requested as a plan, which `applyBatch` applies.")
    keep_chosen: bool = column("Whether the run leaves preferences unchanged that people have chosen.")
    requested_by: str = column(
        "Who requested the run: the role of the token, and the person's id in the district's own system if the token "
        "names a person."
    )
    requested_at: datetime.datetime = column("When the run was requested.")
    planned_at: datetime.datetime | None = column(
        "When the run became PLANNED; null if it has not, and for a run that was not requested as a plan."
    )
    finished_at: datetime.datetime | None = column("When the run ended; null until then.")
    progress: BatchProgress = linked(RowsLink(None), "The progress of the run.")
    population: int = column(
        "The number of people that the mode and scope select; 0 until the run is planned."
    )
    results: list[BatchCellResult] = linked(
        RowsLink(
            "batch_cell_result",
            _OF_RUN,
            "{child}.contact_point, {child}.bit",
            tables={"counts": "batch_cell"},
            max_rows=_MATRIX_CELLS,
            naturally_bounded=True,
        ),
        "What the run has done so far: one entry for every cell of the matrix, including NO_CHANGE cells, in the "
        "matrix's order. A plan has done nothing yet; see `forecast` for what it would do.",
    )
    forecast: list[BatchCellResult] | None = linked(
        RowsLink(
            "batch_cell_result",
            f"{_OF_RUN} and {_HAS_FORECAST}",
            "{child}.contact_point, {child}.bit",
            tables={"counts": "batch_forecast"},
            null_when_empty=True,
            max_rows=_MATRIX_CELLS,
            naturally_bounded=True,
        ),
        "What the plan would do, in the same form as `results`. It does not change when the plan is applied. Null "
        "until the plan is complete, and for a run that was not requested with `dryRun`.",
    )
    queued_behind: Optional["BatchRun"] = linked(
        _run("queued_behind_id"),
        "The run directly before this one in the district's queue; null if this one does not wait.",
    )
    reverts: Optional["BatchRun"] = linked(
        _run("reverts_id"), "For a revert, the run that this one undoes; else null."
    )
    reverted_by: Optional["BatchRun"] = linked(
        _run("reverted_by_id"),
        "The newest run that undoes this one; null if there is none. There may be several if one did not complete.",
    )
    restored: int | None = column(
        "For a revert, the number of preferences that have returned to what they were; else null."
    )
    left_alone: int | None = column(
        "For a revert, the number of preferences that stay because somebody changed them since; else null."
    )
    difference: BatchDifference | None = linked(
        RowsLink("batch_difference", _OF_RUN),
        "The difference between the plan and what was done when it was applied; null for other runs.",
    )
    errors: list[str] = column("What went wrong, in words; empty if nothing did.")

    @linked_with_arguments(
        ConnectionLink(
            "batch_exclusion",
            (
                SortKey("block", "integer"),
                SortKey("place", "bigint"),
                SortKey("bit", "smallint"),
            ),
            _exclusions_of_run,
            max_first=MAX_EXCLUSIONS,
            row_cost=2,
            scan_cost=10_000,
        )
    )
    def exclusions(
        self,
        first: _ExclusionsFirst = None,
        after: After = None,
    ) -> RelayConnection[BatchExclusion]:
        """The people and households that rules excluded, with the cell and the rule.

        The order is that of the rules. Of one rule people come before households; beyond that it has no meaning, but it
        never changes.
        """

    excluded_by_rule: list[BatchExcludedByRule] = linked(
        RowsLink("batch_excluded_by_rule", _OF_RUN, "{child}.excluded desc, {child}.rule", max_rows=200),
        "How much each rule excluded, the most first. For a plan that was applied, that includes what was excluded "
        "when it was planned.",
    )

    @linked_with_arguments(_RUN_SAMPLES)
    def samples(self, first: First = 10) -> list[BatchSample]:
        """Examples of the people and households that a plan would change, spread over all of them.

        At most 25, whatever `first` is. Empty if the run is not a plan.
        """


@strawberry.type(description="Conditions that select people, saved under a name.")
class SavedFilter(Node):
    name: str = column("The name, which is unique for the kind.")
    kind: FilterKind = column("The people that the filter selects from.")
    criteria: JSON = column("The conditions that people must meet, in the form that `saveFilter` takes.")
    matches: int = strawberry.field(
        description="The number of people who meet the conditions today.",
        metadata={LINK: ExpressionLink("{matches}", matches_slots, row_cost=1_000)},
    )


@strawberry.type(description="A plug-in that is installed on the server.")
class Plugin:
    name: str = column("The name of the plug-in.")
    version: str | None = column("The version of the plug-in; null if it has none.")
    distribution: str | None = column(
        "The installed Python distribution that it came with; null if there is none."
    )
    enabled: bool = column("Whether the plug-in is in use.")
    hooks: list[str] = column("The names of the hooks that it implements.")
