"""The batch: modes, what the wizard may offer, runs and their results; saved filters and plug-ins."""

import datetime
from typing import Optional

import strawberry

from gql_server.api.enums import BatchStatus, ContactPointKind, FilterKind, PlanningStep, Setting
from gql_server.api.fields import After, First, OptionalFirst, column, joined, linked
from gql_server.api.filter_matches import matches_slots
from gql_server.api.scalars import JSON, ModeCode, ReasonCode
from gql_server.api.types.common import Connection, Node
from gql_server.api.types.people import HOUSEHOLD, PERSON, Household, Person
from gql_server.domain.reasons import MAX_REASONS
from gql_server.reads.cursors import page_size
from gql_server.reads.links import ConnectionLink, Expression, Key, Link

_MATRIX_CELLS = MAX_REASONS * len(ContactPointKind)
_OF_RUN = "{child}.batch_run_id = {parent}.batch_run_id"


@strawberry.type(description="Why a message is sent: the columns of the wizard's matrix.")
class ContactReason:
    code: ReasonCode = column("Its code.")
    label: str = column("Its name.")
    description: str = column("What such messages are about.")
    plugin: str = column("The plug-in that adds it.")


@strawberry.type(description="A way to select people for a batch.")
class BatchMode:
    code: ModeCode = column("Its code.")
    label: str = column("Its name.")
    description: str = column("Whom it selects.")
    filter_kind: FilterKind = column("The kind of saved filters it takes.")
    filter_required: bool = column("Whether it needs one.")
    plugin: str = column("The plug-in that adds it.")


@strawberry.type(description="One cell of the wizard's matrix.")
class BatchCellOption:
    contact_point: ContactPointKind = column("The contact point.")
    reason: ReasonCode = column("The reason.")
    enabled: bool = column("Whether a batch may set it.")
    because: str | None = column("Why not; null where it may.")
    reachable: int = column(
        "The selected people with that contact point on record; for the household phone: households."
    )


@strawberry.type(
    description="What the wizard may offer for a mode and scope: each cell, and if it is not enabled, why."
)
class BatchOptions:
    population: int = column("How many people the mode and scope select.")
    cells: list[BatchCellOption] = joined(
        Link("batch_cell_option", order="{child}.contact_point, {child}.bit", most=_MATRIX_CELLS, fixed=True),
        "The cells, in the matrix's order.",
    )


@strawberry.type(
    description="How far the plan of a run is. A plan that another server takes over begins anew."
)
class BatchPlanning:
    step: PlanningStep = column("What it is at.")
    done: int = column("How much of the step is done, in the measure of the step.")
    total: int = column("How much there is of the step; 0 where that cannot be told.")


@strawberry.type(description="People (and, for the household phone, households) to do and done.")
class BatchProgress:
    done: int = column("Done so far.")
    total: int = column("To do in all; 0 until the run is planned.")
    planning: BatchPlanning | None = joined(
        Link("batch_planning", _OF_RUN), "How far the plan is; null unless the run is PLANNING."
    )


@strawberry.type(
    description="One cell of the matrix: in `results` what the run did with it so far, in `forecast` what its plan "
    "would do. All counts are null where the cell is NO_CHANGE; in `results` they are 0 until the run sets preferences."
)
class BatchCellResult:
    contact_point: ContactPointKind = column("The contact point.")
    reason: ReasonCode = column("The reason.")
    set: Setting = column("What the run was asked to do with the cell.")
    updated: int | None = column(
        "Preferences changed; null where the cell is NO_CHANGE. For the household phone: households."
    )
    unchanged: int | None = column("Already as asked.")
    overwrote_chosen: int | None = column("Of `updated`: those that had been the person's own choice.")
    kept_chosen: int | None = column("Left alone because `keepChosen` was set.")
    excluded: int | None = column(
        "Kept out by a rule: of all that the run is to do, known when it begins to set preferences."
    )
    left_alone: int | None = column(
        "Left alone because somebody set them meanwhile: themselves since the plan that was applied; for a revert, "
        "anybody since the run that it undoes."
    )
    people_affected: int | None = column(
        "For the household phone: active members of the changed households; else the same as `updated`."
    )


@strawberry.type(description="A person or household that a rule kept out of a cell.")
class BatchExclusion:
    person: Person | None = joined(PERSON, "The person; null for the household phone.")
    household: Household | None = joined(HOUSEHOLD, "The household, for the household phone.")
    contact_point: ContactPointKind = column("The contact point.")
    reason: ReasonCode = column("The reason.")
    rule: str = column("The rule: its plug-in and name.")
    code: str = column("Why, for programs: a stable code of the plug-in, such as `NO_CONTACT`.")
    because: str = column("Why, in the rule's words.")
    remedy: str | None = column("What would help, in the rule's words; null if it names nothing.")


@strawberry.type(description="How much a rule kept out of a run, summed over its cells.")
class BatchExcludedByRule:
    rule: str = column("The rule: its plug-in and name.")
    code: str = column("Why, for programs; `exclusions` may have other codes for single people.")
    because: str = column("Why, in the rule's words; `exclusions` may have other words for single people.")
    remedy: str | None = column("What would help, in the rule's words; null if it names nothing.")
    excluded: int = column("Preferences that it kept out, counted as `excluded` of the cells.")


@strawberry.type(description="A cell in which a plan would change somebody.")
class BatchSampleCell:
    contact_point: ContactPointKind = column("The contact point.")
    reason: ReasonCode = column("The reason.")
    set: Setting = column("What it would be set to.")


@strawberry.type(description="One of the people and households that a plan would change.")
class BatchSample:
    person: Person | None = joined(PERSON, "The person; null for the household phone.")
    household: Household | None = joined(HOUSEHOLD, "The household, for the household phone.")
    cells: list[BatchSampleCell] = joined(
        Link(
            "batch_sample_cell",
            f"{_OF_RUN} and {{child}}.place = {{parent}}.place",
            "{child}.contact_point, {child}.bit",
            most=_MATRIX_CELLS,
            fixed=True,
        ),
        "The cells that would change.",
    )


@strawberry.type(description="How a plan fitted when it was applied: what of it was not done, and why.")
class BatchDifference:
    left_population: int = column(
        "People (and, for the household phone, households) of the plan who were selected no more."
    )
    chose_since: int = column("Cells that people have set for themselves since the plan: they stay.")
    excluded_since: int = column("Cells that a rule keeps people out of only since the plan.")
    outdated: bool = column("Whether the plan was older than the server's limit, a day unless set otherwise.")


_RUN_SAMPLES = Link(
    "batch_sample",
    f"{_OF_RUN} and {{child}}.place <= :first::integer",
    "{child}.place",
    lambda args, context: {"first": page_size(args.get("first"), 10, context.max_first)},
    most=25,
)


def _run(column_name: str) -> Link:
    """The run whose number is in a column of this one."""
    return Link("batch_run", f"{{child}}.batch_run_id = {{parent}}.{column_name}")


MAX_EXCLUSIONS = 10_000
"""A page sorts all exclusions of its run: who reads them all, as a file does, asks for few long pages."""


@strawberry.type(description="One run of a batch: what was asked, how far it is, what came of it.")
class BatchRun(Node):
    mode: ModeCode = column("The mode it selects people by.")
    status: BatchStatus = column("Where it stands.")
    dry_run: bool = column("Whether it was asked for as a plan; `applyBatch` applies it.")
    keep_chosen: bool = column("Whether it leaves alone what people chose for themselves.")
    requested_by: str = column("Who asked for it.")
    requested_at: datetime.datetime = column("When.")
    planned_at: datetime.datetime | None = column(
        "When it became PLANNED; null for what was not asked as a plan."
    )
    finished_at: datetime.datetime | None = column("When it ended; null before that.")
    progress: BatchProgress = joined(Link(None), "How far it is.")
    population: int = column("People the mode and the scope selected; 0 until the run is planned.")
    results: list[BatchCellResult] = joined(
        Link(
            "batch_cell_result", _OF_RUN, "{child}.contact_point, {child}.bit", most=_MATRIX_CELLS, fixed=True
        ),
        "What the run did so far: one entry for every cell of the wizard's matrix, NO_CHANGE cells among them, in the "
        "matrix's order. A run that wrote nothing has updated nothing: see `forecast` for what a plan would do.",
    )
    forecast: list[BatchCellResult] | None = joined(
        Link(
            "batch_cell_forecast",
            _OF_RUN,
            "{child}.contact_point, {child}.bit",
            none_is_null=True,
            most=_MATRIX_CELLS,
            fixed=True,
        ),
        "What the plan foresees, never what was done, in the form of `results`; it stays as it was shown when the plan "
        "is applied. Null until there is a plan, and for a run that was not asked for as one (`dryRun`).",
    )
    queued_behind: Optional["BatchRun"] = joined(
        _run("queued_behind_id"),
        "The run that it waits for, the last one before it; null where it does not wait.",
    )
    reverts: Optional["BatchRun"] = joined(_run("reverts_id"), "The run that this one undoes.")
    reverted_by: Optional["BatchRun"] = joined(
        _run("reverted_by_id"), "The run that undoes this one; the newest, where one did not come to its end."
    )
    restored: int | None = column("For a revert: cells that are again what they were; else null.")
    left_alone: int | None = column(
        "For a revert: cells that stay because somebody changed them since; else null."
    )
    difference: BatchDifference | None = joined(
        Link("batch_difference", _OF_RUN), "How a plan fitted when it was applied; null for other runs."
    )
    errors: list[str] = column("What went wrong, in words; empty for a run that went well.")

    @linked(
        ConnectionLink(
            "batch_exclusion",
            (
                Key("rule_no", "smallint"),
                Key("household", "boolean"),
                Key("subject_id", "bigint"),
                Key("contact_point", "contact_point_kind"),
                Key("bit", "smallint"),
            ),
            _OF_RUN,
            max_first=MAX_EXCLUSIONS,
            each=2,
            scan=50_000,
        )
    )
    def exclusions(
        self,
        first: OptionalFirst = None,
        after: After = None,
    ) -> Connection[BatchExclusion]:
        """People a rule kept out of a cell, with the rule and its words; up to 10,000 at once."""

    excluded_by_rule: list[BatchExcludedByRule] = joined(
        Link("batch_excluded_by_rule", _OF_RUN, "{child}.excluded desc, {child}.rule", most=200),
        "How much each rule kept out, the most first; of a plan that was applied, what its plan kept out among it.",
    )

    @linked(_RUN_SAMPLES)
    def samples(self, first: First = 10) -> list[BatchSample]:
        """Some of those whom a plan would change, spread over all, at most 25; empty for a run that is no plan."""


@strawberry.type(description="A selection of people kept under a name.")
class SavedFilter(Node):
    name: str = column("Its name, unique for its kind.")
    kind: FilterKind = column("What it selects from.")
    criteria: JSON = column("What people must fit: all / any / not over fields.")
    matches: int = strawberry.field(
        description="How many people fit today.",
        metadata={"link": Expression("{matches}", matches_slots, each=1_000)},
    )


@strawberry.type(description="A plug-in of the server.")
class Plugin:
    name: str = column("Its name.")
    version: str | None = column("Its version, where it came with one.")
    distribution: str | None = column("The installed distribution it came with, if any.")
    enabled: bool = column("Whether it is in use.")
    hooks: list[str] = column("The hooks it implements.")
