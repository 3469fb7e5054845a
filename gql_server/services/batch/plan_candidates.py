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
from gql_server.services.rules.plugin_sql import is_built_in_selection, plugin_sql, selection_of
from gql_server.services.rules.rule_set import RuleSet, denied_reasons, rule_reasons

HOUSEHOLD_PHONE = ContactPointKind.HOUSEHOLD_PHONE


async def select_people(plan: Plan) -> None:
    """Select the people by the mode's plug-in."""
    run, conn = plan.run, plan.conn
    population = await plan.host.calls.population(
        run.mode, plugin_scope(run.district, run.scope, run.mode, plan.host)
    )
    selection = selection_of(plan.host, run.mode, population)
    built_in = is_built_in_selection(plan.host, run.mode)
    select = statement("batch/plan/select_people").fill(population=_selected(population, built_in))
    async with plugin_sql(conn, selection, seconds=plan.limits.statement_seconds, built_in=built_in):
        await execute(conn, select, **plan.fragment_args)
    # Without statistics the planner takes the people for a few hundred, and looks up the channel of each by itself.
    await execute(conn, Sql("analyze selected"))


def _selected(population: Population, built_in: bool) -> Sql:
    """Return a SELECT of person_id and student_id, which is null where the mode does not say through whom.

    That all people are the district's is believed of the product's own SQL alone (D38).
    """
    people = population.sql
    if not population.through_students:
        people = Sql("select p.person_id, null::bigint as student_id from ({people}) p").fill(people=people)
    if built_in and population.of_district:
        return people
    return statement("batch/plan/of_district").fill(population=people)


async def find_channels(plan: Plan, rules: RuleSet) -> int:
    """Find the people's own channels and their households' phones, and ask conditions and early rules (D14, D17).

    Return the number of people selected. Each has one channel of each of their own contact points, whatever is on
    record: where a run names one alone, that is the list of people, and else they are listed before.
    """
    plan.progress.begin(PlanningStep.FINDING_CHANNELS, len(plan.masks))
    distinct = statement("batch/plan/distinct_people")
    listed = len(plan.masks) > 1 or plan.masks[0].contact_point is HOUSEHOLD_PHONE
    people = 0
    if rules.early:
        reasons = [rule_reasons(owned.rule, plan.bits) for owned in rules.early.values()]
        await execute(plan.conn, "batch/plan/add_early_rules", rule_nos=[*rules.early], reasons=reasons)
    if listed:
        people = await execute(plan.conn, statement("batch/plan/fill_population").fill(people=distinct))
    for masks in plan.masks:
        found = await _find_channel(plan, masks, rules, Sql("table population") if listed else distinct)
        plan.progress.advance()
    await execute(plan.conn, Sql("analyze all_channels"))
    return people if listed else found


async def _find_channel(plan: Plan, masks: ChannelMasks, rules: RuleSet, people: Sql) -> int:
    """Find one channel of `people`, or of their households, and return how many there are."""
    if masks.contact_point is HOUSEHOLD_PHONE:
        find, slots = statement("batch/plan/find_household_channels"), {}
    else:
        find, slots = statement("batch/plan/find_people_channels"), {"people": people}
    denied = denied_reasons(rules.early, masks, plan.bits)
    return await plan.relation_rules.ask_conditions(
        rules.conditions,
        find,
        {**slots, "denied_reasons": denied, "fence": Sql("offset 0" if rules.early else "")},
        rules.early,
        contact_point=masks.contact_point,
        method=batch_method(masks.contact_point),
        on_mask=masks.on_mask,
        off_mask=masks.off_mask,
    )


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
