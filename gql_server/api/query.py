"""The query type: every field is a link; a whole query is one statement."""

from collections.abc import Mapping
from typing import Annotated

import orjson
import strawberry
from strawberry import argument

from gql_server.api.enums import FilterKind, Role
from gql_server.api.fields import ADMIN, After, First, Id, id_param, joined, linked
from gql_server.api.inputs import BatchScope, PersonFilter
from gql_server.api.people_filter import people_condition, people_named, people_params
from gql_server.api.scalars import ModeCode, Revision
from gql_server.api.types.batch import BatchMode, BatchOptions, BatchRun, ContactReason, Plugin, SavedFilter
from gql_server.api.types.common import Connection, Node
from gql_server.api.types.people import PERSON_EACH, Household, Person, School, Viewer
from gql_server.domain.ids import IdKind
from gql_server.domain.limits import MAX_IDS
from gql_server.domain.reasons import MAX_REASONS
from gql_server.domain.sql import Sql
from gql_server.reads.links import Args, ConnectionLink, Expression, Key, Link, NodeLink, ReadContext
from gql_server.services.batch.request import ScopeInput
from gql_server.services.batch.scope import resolve_scope


def _by_id(table: str, kind: IdKind, roles: frozenset[Role] | None = None) -> Link:
    on = f"{{child}}.{table}_id = :id::bigint"
    return Link(table, on, params=id_param(kind), roles=roles, each=2)


def _by_own_id(table: str, kind: IdKind, roles: frozenset[Role] | None = None) -> Link:
    """A branch of `node`: it finds a row only for an id of its own kind."""
    on = f"{{child}}.{table}_id = :{kind.value}_id::bigint"
    return Link(
        table,
        on,
        params=lambda args, context: {f"{kind.value}_id": id_param(kind)(args, context)["id"]},
        roles=roles,
    )


_NODES = NodeLink(
    {
        "Person": _by_own_id("person", IdKind.PERSON),
        "Household": _by_own_id("household", IdKind.HOUSEHOLD),
        "School": _by_own_id("school", IdKind.SCHOOL),
        "BatchRun": _by_own_id("batch_run", IdKind.BATCH_RUN, ADMIN),
        "SavedFilter": _by_own_id("saved_filter", IdKind.SAVED_FILTER, ADMIN),
        "OptOut": _by_own_id("opt_out", IdKind.OPT_OUT),
    }
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


async def _population(args: Args, context: ReadContext) -> Mapping[str, Sql]:
    scope, mode = args["scope"], str(args["mode"])
    assert isinstance(scope, Mapping)
    given = ScopeInput(
        school_ids=None if scope.get("schoolIds") is None else tuple(scope["schoolIds"]),
        school_year=scope.get("schoolYear"),
        grades=None if scope.get("grades") is None else tuple(scope["grades"]),
        filter_id=scope.get("filterId"),
    )
    async with context.db.acquire(context.viewer.district.district_id) as conn:
        resolved = await resolve_scope(conn, context.viewer.district, context.host, mode, given)
    return {"population": (await context.host.calls.population(mode, resolved)).sql}


@strawberry.type(
    description="What can be asked. The data of a query is read by one statement, so all of it is of one moment; what "
    "saved filters and scopes mean is looked up just before, and beside introspection each field at the top is read "
    "by itself. Two queries, such as those for two pages, are of two moments."
)
class Query:
    viewer: Viewer = joined(Link("viewer"), "Who asks.")
    schools: list[School] | None = joined(
        Link("school", order="{child}.name, {child}.school_id", most=10_000, most_portal=2_500),
        "The schools of the district.",
    )
    contact_reasons: list[ContactReason] = joined(
        Link("contact_reason", order="{child}.bit", most=MAX_REASONS, fixed=True),
        "The contact reasons of the district, in the matrix's order.",
    )
    batch_modes: list[BatchMode] | None = joined(
        Link("batch_mode", order="{child}.position", params=_modes, roles=ADMIN, most=100, fixed=True),
        "The modes a batch may use. For administrators.",
    )
    plugins: list[Plugin] | None = joined(
        Link("plugin", order="{child}.position", params=_plugins, roles=ADMIN, most=100, fixed=True),
        "The plug-ins of the server. For administrators.",
    )
    head_revision: Revision = joined(
        Expression("(select revision::text from district where district_id = :district_id)"),
        "The revision of the newest change set of the district. It tells whether anything was changed since it was "
        "read last, not what.",
    )

    @linked(_NODES)
    def node(self, id: Id) -> Node | None:
        """Anything by its id; null for what does not exist or the viewer may not see."""

    @linked(_by_id("person", IdKind.PERSON))
    def person(self, id: Id) -> Person | None:
        """A person by id."""

    @linked(
        ConnectionLink(
            "person",
            (Key("last_name", "text"), Key("first_name", "text"), Key("person_id", "bigint")),
            people_condition,
            params=people_params,
            each=PERSON_EACH,
            scan=80_000,
            scan_portal=1_000,  # whom they see are looked up by their ids
            look_up=people_named,
            scan_look_up=MAX_IDS,
        )
    )
    def people(
        self,
        filter: Annotated[
            PersonFilter | None, argument(description="Which people; without it everyone.")
        ] = None,
        first: First = 50,
        after: After = None,
    ) -> Connection[Person] | None:
        """People by last and first name."""

    @linked(_by_id("household", IdKind.HOUSEHOLD))
    def household(self, id: Id) -> Household | None:
        """A household by id."""

    @linked(
        ConnectionLink(
            "household",
            (Key("name", "text"), Key("household_id", "bigint")),
            scan=20_000,
            scan_portal=1_000,
        )
    )
    def households(self, first: First = 50, after: After = None) -> Connection[Household] | None:
        """Households by name."""

    @linked(Link("batch_options", slots=_population, roles=ADMIN, scan=50_000))
    def batch_options(
        self,
        mode: Annotated[ModeCode, argument(description="The mode.")],
        scope: Annotated[BatchScope, argument(description="What narrows it.")] = BatchScope(),  # noqa: B008
    ) -> BatchOptions | None:
        """What the wizard may offer for a mode and scope. For administrators."""

    @linked(_by_id("batch_run", IdKind.BATCH_RUN, ADMIN))
    def batch_run(self, id: Id) -> BatchRun | None:
        """A run by id."""

    @linked(ConnectionLink("batch_run", (Key("batch_run_id", "bigint"),), descending=True, roles=ADMIN))
    def batch_runs(self, first: First = 20, after: After = None) -> Connection[BatchRun] | None:
        """The runs of the district, newest first. For administrators."""

    @linked(
        Link(
            "saved_filter",
            lambda args: "true" if args.get("kind") is None else "{child}.kind = :kind::filter_kind",
            "{child}.kind, {child}.name",
            lambda args, context: {"kind": args.get("kind")},
            roles=ADMIN,
            most=200,
        )
    )
    def saved_filters(
        self, kind: Annotated[FilterKind | None, argument(description="Only of this kind.")] = None
    ) -> list[SavedFilter] | None:
        """The saved filters of the district. For administrators."""
