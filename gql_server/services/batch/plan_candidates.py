"""The candidates of a plan: the people whom the mode selects, and the channels of theirs that the run names."""

from gql_server.db.statements import execute, fetch, fetchrow, statement
from gql_server.domain.batch import ChannelMasks, PlanningStep
from gql_server.domain.channels import ContactPointKind, batch_method
from gql_server.domain.sql import Sql
from gql_server.errors import Rejected
from gql_server.hooks import Population
from gql_server.services.batch.cell_availability import disabled_cells, not_enabled_errors, unreachable_cells
from gql_server.services.batch.plan_context import Plan
from gql_server.services.batch.scope import plugin_scope
from gql_server.services.rules.plugin_sql import SeveralSuspects, fragments_of, plugin_sql, selection_of
from gql_server.services.rules.rule_set import NumberedRules, denied_by


async def select_people(plan: Plan) -> int:
    """Select the people by the mode's plug-in and return their number."""
    run, conn = plan.run, plan.conn
    population = await plan.host.calls.population(
        run.mode, plugin_scope(run.district, run.scope, run.mode, plan.host)
    )
    selection = selection_of(plan.host, run.mode, population)
    select = statement("batch/plan/select_people").fill(population=_with_students(population))
    async with plugin_sql(conn, selection, seconds=plan.limits.statement_seconds):
        await execute(conn, select, **plan.fragment_args)
    people = await execute(conn, "batch/plan/fill_population")
    await execute(conn, Sql("analyze selected, population"))
    return people


def _with_students(population: Population) -> Sql:
    """Return a SELECT of person_id and student_id, which is null where the mode does not say through whom."""
    if population.through_students:
        return population.sql
    return Sql("select p.person_id, null::bigint as student_id from ({people}) p").fill(people=population.sql)


async def find_channels(plan: Plan, conditions: NumberedRules) -> None:
    """Find the people's own channels and their households' phones, and ask the conditions about them (D14, D17)."""
    plan.progress.begin(PlanningStep.FINDING_CHANNELS, len(plan.masks))
    for masks in plan.masks:
        await _find_channel(plan, masks, conditions)
        plan.progress.advance()
    await execute(plan.conn, Sql("analyze all_channels"))


async def _find_channel(plan: Plan, masks: ChannelMasks, conditions: NumberedRules) -> None:
    household = masks.contact_point is ContactPointKind.HOUSEHOLD_PHONE
    find = statement(f"batch/plan/find_{'household' if household else 'people'}_channels")
    args = {
        **plan.fragment_args,
        "contact_point": masks.contact_point,
        "method": batch_method(masks.contact_point),
        "on_mask": masks.on_mask,
        "off_mask": masks.off_mask,
    }

    async def ask(rules: NumberedRules, query: Sql) -> None:
        async with plugin_sql(plan.conn, *fragments_of(rules), seconds=plan.limits.statement_seconds):
            await execute(plan.conn, query.fill(denied_by=denied_by(rules)), **args)

    try:
        await ask(conditions, find)
    except SeveralSuspects:  # as in `ask_together`, but the channels are found once
        await ask({}, find)
        for number, owned in conditions.items():
            await ask({number: owned}, statement("batch/plan/deny_channels"))


async def require_enabled(plan: Plan) -> None:
    """Raise Rejected where a cell is not enabled, now that it is known who is selected (D15)."""
    channels = await fetch(plan.conn, "batch/plan/count_channels")
    plan.progress.candidates = sum(row["candidates"] for row in channels)
    on_record = {row["contact_point"] for row in channels if row["on_record"]}
    named = {masks.contact_point for masks in plan.masks}
    messages = unreachable_cells(plan.cells, {kind for kind in named if kind not in on_record})
    messages |= await disabled_cells(plan.conn, plan.run.district.district_id, plan.cells)
    if messages:
        raise Rejected(not_enabled_errors(messages))


async def intersect(plan: Plan) -> int:
    """Keep the channels of the plan that is being applied; return how many are no longer selected.

    People and households are counted. Raises Rejected where the district has switched a cell off since (D15).
    """
    conn, run = plan.conn, plan.run
    messages = await disabled_cells(conn, run.district.district_id, plan.cells)
    if messages:
        raise Rejected(not_enabled_errors(messages))
    row = await fetchrow(conn, "batch/plan/intersect_plan", **run.key)
    assert row is not None
    plan.progress.candidates = row["candidates"]
    await execute(conn, Sql("analyze all_channels"))
    await execute(conn, "batch/plan/begin_applying", **run.key)
    return int(row["left_population"])
