"""The query type. Every field is a link, so that a whole query becomes one SQL statement."""

from collections.abc import Mapping
from typing import Annotated

import orjson
import strawberry
from strawberry import argument

from gql_server.api.enums import FilterKind, Role
from gql_server.api.fields import ADMIN, After, First, Id, id_param, linked, linked_with_arguments
from gql_server.api.filter_matches import count_of
from gql_server.api.inputs import BatchScopeInput, PersonFilter
from gql_server.api.people_filter import people_condition, people_params, selects_people_by_id
from gql_server.api.scalars import ModeCode, Revision
from gql_server.api.types.batch import BatchMode, BatchOptions, BatchRun, ContactReason, Plugin, SavedFilter
from gql_server.api.types.common import Node, RelayConnection
from gql_server.api.types.people import PERSON_ROW_COST, Household, Person, School, Viewer
from gql_server.domain.ids import IdKind, id_kind
from gql_server.domain.limits import MAX_IDS, MAX_SAVED_FILTERS
from gql_server.domain.reasons import MAX_REASONS
from gql_server.domain.sql import Sql
from gql_server.reads.links import (
    Args,
    ConnectionLink,
    ExpressionLink,
    FilledSlots,
    NodeLink,
    PluginPart,
    ReadContext,
    RowsLink,
    SortKey,
)
from gql_server.services.batch.request import ScopeInput
from gql_server.services.batch.scope import plugin_scope, validate_scope
from gql_server.services.filters import fragments_in
from gql_server.services.rules.plugin_sql import selection_of


def _by_id(table: str, kind: IdKind, roles: frozenset[Role] | None = None) -> RowsLink:
    """Return the link of a field that finds one row by the argument `id`."""
    condition = f"{{child}}.{table}_id = :id::bigint"
    return RowsLink(table, condition, params=id_param(kind), roles=roles, row_cost=2)


def _by_own_id(table: str, kind: IdKind, roles: frozenset[Role] | None = None) -> RowsLink:
    """Return the link of one object type for `node`. It finds a row only for an id of its own kind."""
    name, number = f"{kind.value}_id", id_param(kind)
    return RowsLink(
        table,
        f"{{child}}.{table}_id = :{name}::bigint",
        params=lambda args, context: {name: number(args, context)["id"]},
        roles=roles,
    )


_NODE_TYPES = {
    IdKind.PERSON: "Person",
    IdKind.HOUSEHOLD: "Household",
    IdKind.SCHOOL: "School",
    IdKind.BATCH_RUN: "BatchRun",
    IdKind.SAVED_FILTER: "SavedFilter",
    IdKind.OPT_OUT: "OptOut",
}


def _node_type(args: Args) -> str | None:
    kind = id_kind(str(args["id"]))
    return None if kind is None else _NODE_TYPES[kind]


_NODES = NodeLink(
    {
        "Person": _by_own_id("person", IdKind.PERSON),
        "Household": _by_own_id("household", IdKind.HOUSEHOLD),
        "School": _by_own_id("school", IdKind.SCHOOL),
        "BatchRun": _by_own_id("batch_run", IdKind.BATCH_RUN, ADMIN),
        "SavedFilter": _by_own_id("saved_filter", IdKind.SAVED_FILTER, ADMIN),
        "OptOut": _by_own_id("opt_out", IdKind.OPT_OUT),
    },
    _node_type,
)


def _modes(args: Args, context: ReadContext) -> dict[str, object]:
    return {
        "modes": orjson.dumps(
            [
                {
                    "code": owned.mode.code,
                    "label": owned.mode.label,
                    "description": owned.mode.description,
                    "filter_kind": owned.mode.filter_kind,
                    "filter_required": owned.mode.filter_required,
                    "plugin": owned.plugin,
                }
                for owned in context.host.modes.values()
            ]
        ).decode()
    }


def _plugins(args: Args, context: ReadContext) -> dict[str, object]:
    return {"plugins": orjson.dumps(list(context.host.plugins)).decode()}


_PEOPLE_OF = Sql(
    "select count(*) from ({population}) people"
    " join person p on p.district_id = :district_id and p.person_id = people.person_id"
)
"""The number of people whom a mode selects, read as `batchOptions` reads them."""


async def _population(args: Args, context: ReadContext) -> FilledSlots:
    """Return the SQL of the people whom a mode and scope select. Raises Rejected for an invalid scope."""
    named, mode = args["scope"], str(args["mode"])
    assert isinstance(named, Mapping)
    given = ScopeInput(
        school_ids=None if named.get("schoolIds") is None else tuple(named["schoolIds"]),
        school_year=named.get("schoolYear"),
        grades=None if named.get("grades") is None else tuple(named["grades"]),
        filter_id=named.get("filterId"),
    )
    async with context.db.acquire(context.viewer.district.district_id) as conn:
        recorded = await validate_scope(conn, context.viewer.district, context.host, mode, given)
    scope = plugin_scope(context.viewer.district, recorded, mode, context.host)
    population = await context.host.calls.population(mode, scope)
    parts = []
    if scope.filter is not None:  # first, because the SQL of the mode contains the filter
        kind = context.host.modes[mode].mode.filter_kind
        parts.append(PluginPart(count_of(scope.filter), fragments_in(recorded.criteria, kind, context.host)))
    parts.append(
        PluginPart(
            _PEOPLE_OF.fill(population=population.sql), (selection_of(context.host, mode, population),)
        )
    )
    return FilledSlots({"population": population.sql}, tuple(parts))


@strawberry.type(
    description="Reads of a district's data. All data of one query is read by one SQL statement, and is therefore a "
    "consistent snapshot; only the criteria of saved filters and scopes are read just before it. Two queries, such as "
    "those for two pages of a connection, are two snapshots."
)
class Query:
    viewer: Viewer = linked(RowsLink("viewer"), "The viewer: the role and person of the token.")
    schools: list[School] | None = linked(
        RowsLink("school", order="{child}.name, {child}.school_id", max_rows=10_000, max_rows_portal=2_500),
        "The schools of the district, by name. Null with an error if there are more than the response may list.",
    )
    contact_reasons: list[ContactReason] = linked(
        RowsLink("contact_reason", order="{child}.bit", max_rows=MAX_REASONS, naturally_bounded=True),
        "The contact reasons of the district, in the order of the matrix's columns.",
    )
    batch_modes: list[BatchMode] | None = linked(
        RowsLink(
            "batch_mode",
            order="{child}.position",
            params=_modes,
            roles=ADMIN,
            max_rows=100,
            naturally_bounded=True,
        ),
        "The modes that a batch can use. For administrators only.",
    )
    plugins: list[Plugin] | None = linked(
        RowsLink(
            "plugin",
            order="{child}.position",
            params=_plugins,
            roles=ADMIN,
            max_rows=100,
            naturally_bounded=True,
        ),
        "The plug-ins that are installed on the server. For administrators only.",
    )
    head_revision: Revision = linked(
        ExpressionLink("(select revision::text from district where district_id = :district_id)"),
        "The revision of the newest change set of the district. If it has not changed since it was last read, no "
        "preference has changed either. 0 means that there is no change set yet.",
    )

    @linked_with_arguments(_NODES)
    def node(self, id: Id) -> Node | None:
        """The object with an id; null if it does not exist or the viewer may not see it."""

    @linked_with_arguments(_by_id("person", IdKind.PERSON))
    def person(self, id: Id) -> Person | None:
        """The person with an id; null if they do not exist or the viewer may not see them."""

    @linked_with_arguments(
        ConnectionLink(
            "person",
            (SortKey("last_name", "text"), SortKey("first_name", "text"), SortKey("person_id", "bigint")),
            people_condition,
            params=people_params,
            row_cost=PERSON_ROW_COST,
            scan_cost=80_000,
            scan_cost_portal=1_000,  # portal users see few people, who are found by their ids
            selects_by_id=selects_people_by_id,
            scan_cost_by_id=MAX_IDS,
        )
    )
    def people(
        self,
        filter: Annotated[
            PersonFilter | None,
            argument(description="Selects the people. Null means everyone whom the viewer may see."),
        ] = None,
        first: First = 50,
        after: After = None,
    ) -> RelayConnection[Person] | None:
        """The people of the district whom the viewer may see, by last and first name."""

    @linked_with_arguments(_by_id("household", IdKind.HOUSEHOLD))
    def household(self, id: Id) -> Household | None:
        """The household with an id; null if it does not exist or the viewer may not see it."""

    @linked_with_arguments(
        ConnectionLink(
            "household",
            (SortKey("name", "text"), SortKey("household_id", "bigint")),
            scan_cost=20_000,
            scan_cost_portal=1_000,
        )
    )
    def households(self, first: First = 50, after: After = None) -> RelayConnection[Household] | None:
        """The households of the district that the viewer may see, by name."""

    @linked_with_arguments(RowsLink("batch_options", slots=_population, roles=ADMIN, scan_cost=50_000))
    def batch_options(
        self,
        mode: Annotated[ModeCode, argument(description="The mode that selects the people.")],
        scope: Annotated[
            BatchScopeInput, argument(description="Narrows the people that the mode selects.")
        ] = BatchScopeInput(),  # noqa: B008
    ) -> BatchOptions | None:
        """The people that a mode and scope select, and the cells that a batch may set. For administrators only."""

    @linked_with_arguments(_by_id("batch_run", IdKind.BATCH_RUN, ADMIN))
    def batch_run(self, id: Id) -> BatchRun | None:
        """The batch run with an id; null if it does not exist. For administrators only."""

    @linked_with_arguments(
        ConnectionLink("batch_run", (SortKey("batch_run_id", "bigint"),), descending=True, roles=ADMIN)
    )
    def batch_runs(self, first: First = 20, after: After = None) -> RelayConnection[BatchRun] | None:
        """The batch runs of the district, newest first. For administrators only."""

    @linked_with_arguments(
        RowsLink(
            "saved_filter",
            lambda args: "true" if args.get("kind") is None else "{child}.kind = :kind::filter_kind",
            "{child}.kind, {child}.name",
            lambda args, context: {"kind": args.get("kind")},
            roles=ADMIN,
            max_rows=MAX_SAVED_FILTERS,
        )
    )
    def saved_filters(
        self,
        kind: Annotated[
            FilterKind | None, argument(description="Selects filters of this kind. Null means all kinds.")
        ] = None,
    ) -> list[SavedFilter] | None:
        """The saved filters of the district, by kind and name. For administrators only."""
