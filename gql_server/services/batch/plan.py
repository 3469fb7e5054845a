"""The plan of a run: who is selected, who is kept out of which cells, what is to be done. One transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetch, fetchrow, fetchval, statement
from gql_server.domain.batch import Cell, ChannelMasks, PlanningStep, Setting, channel_masks
from gql_server.domain.channels import ContactPointKind, batch_method
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import Role
from gql_server.errors import PluginError, Rejected
from gql_server.hooks import Cell as RuleCell
from gql_server.hooks import Context, RuleRequest
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.cell_availability import not_enabled, out_of_reach, switched_off
from gql_server.services.batch.counting import count_cells, count_people, counts_slot
from gql_server.services.batch.plan_rules import Barring, PlanRules
from gql_server.services.batch.plugin_sql import plugin_sql, selection_of
from gql_server.services.batch.progress import PlanProgress
from gql_server.services.batch.rules import RuleLimits
from gql_server.services.batch.run import LEASE_SECONDS, LeaseLost, Run
from gql_server.services.batch.scope import mode_scope, nobody_selected
from gql_server.services.batch.signals import notify_moved
from gql_server.services.changes import Tally, table_slots
from gql_server.services.districts import reason_bits

PLAN_MAX_AGE = 24 * 3600.0
"""From what age, in seconds, a plan that is applied is reported as outdated."""
_SAMPLES = 25
_STATEMENT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What all steps of a plan need."""

    conn: Connection
    run: Run
    today: date
    cells: Sequence[Cell]
    bits: ReasonBits
    masks: Sequence[ChannelMasks]
    limits: RuleLimits
    progress: PlanProgress


async def plan_run(
    db: Database,
    host: PluginHost,
    run: Run,
    *,
    chunk_size: int,
    lease_seconds: float = LEASE_SECONDS,
    limits: RuleLimits = RuleLimits(),  # noqa: B008
    max_age: float = PLAN_MAX_AGE,
    progress: PlanProgress | None = None,
) -> None:
    """Plan a run that is PLANNING and leave it APPLYING, or PLANNED. Killed in the middle, it leaves nothing.

    A plan that is to be applied is fitted to what has changed since: who is selected no more and what a rule
    denies now is taken out and counted; nothing is added. `chunk_size` is the number of channels, at most, that
    one transaction will write. `lease_seconds`: how long the lease holds. `max_age`: see PLAN_MAX_AGE. `progress`:
    where to note how far the plan is.
    Raises Rejected (nobody is selected, a cell is not enabled, or a plug-in that the scope needs is gone),
    PluginError, and LeaseLost.
    """
    async with db.transaction(run.district.district_id, statement_seconds=_STATEMENT_SECONDS) as conn:
        waits = max(limits.check_seconds, host.calls.seconds)
        await fetch(conn, "batch/plan_settings", idle_seconds=lease_seconds + waits)
        plan = await _prepare(conn, host, run, limits, progress or PlanProgress())
        gone = None
        if run.reverts is not None:
            population = await _look_back(plan)
            plan.progress.begin(PlanningStep.WRITING_PLAN)
            total = await _aim(plan, statement("batch/undo"), chunk_size)
        else:
            (rules,) = await host.calls.rules([_request(plan)])
            asked = PlanRules(db, conn, run, plan.masks, plan.bits, plan.today, limits, plan.progress)
            population, gone = await _gather(plan, host, await asked.bar(rules))
            await asked.ask(rules)
            plan.progress.begin(PlanningStep.WRITING_PLAN, 2)
            if run.plan_only:
                await execute(conn, "batch/begin_forecast", **run.key)
            exclude = statement("batch/exclude").fill(**counts_slot(run))
            await execute(conn, exclude, **run.key, since=run.planned_at is not None)
            plan.progress.advance()
            weighed = statement("batch/weighed")
            total = await (_foresee(plan) if run.plan_only else _aim(plan, weighed, chunk_size))
        await _end(plan, population=population, total=total, gone=gone, max_age_seconds=max_age)


def _request(plan: Plan) -> RuleRequest:
    """Return what the rules are asked about. Only an administrator submits a run."""
    return RuleRequest(
        context=Context.BATCH,
        district=plan.run.district.code,
        time_zone=plan.run.district.time_zone,
        role=Role.ADMIN,
        mode=plan.run.mode,
        cells=tuple(
            RuleCell(cell.contact_point, batch_method(cell.contact_point), cell.reason, cell.set)
            for cell in plan.cells
        ),
    )


async def _gather(plan: Plan, host: PluginHost, barring: Barring) -> tuple[int, int | None]:
    """Gather the candidates, of a plan that is to be applied those that still fit.

    Return the population, and of a plan that is to be applied how many of its people and households are gone.
    """
    population = await _select(plan, host)
    if population == 0 and plan.run.planned_at is None:
        raise nobody_selected()
    await _find_channels(plan, barring)
    if plan.run.planned_at is None:
        await _hold_enabled(plan)
        return population, None
    return population, await _fit(plan)


async def _end(plan: Plan, **planned: float | None) -> None:
    """End the plan. Raises LeaseLost."""
    if await fetchval(plan.conn, "batch/planned", **plan.run.held, today=plan.today, **planned) is None:
        raise LeaseLost
    await notify_moved(plan.conn, **plan.run.key)


async def _prepare(
    conn: Connection, host: PluginHost, run: Run, limits: RuleLimits, progress: PlanProgress
) -> Plan:
    cells = [
        Cell(
            ContactPointKind(row["contact_point"]),
            row["reason"],
            Setting.ON if row["turn_on"] else Setting.OFF,
        )
        for row in await fetch(conn, "batch/cells", **run.key)
    ]
    bits = await reason_bits(conn, run.district.district_id, host.reasons)
    return Plan(conn, run, run.district.today(), cells, bits, channel_masks(cells, bits), limits, progress)


async def _select(plan: Plan, host: PluginHost) -> int:
    """Select the people by the mode's plug-in and return their number."""
    run, conn = plan.run, plan.conn
    population = await host.calls.population(run.mode, mode_scope(run.district, run.scope, run.mode, host))
    selection = selection_of(host, run.mode, population)
    await execute(conn, "batch/create_selected")
    async with plugin_sql(conn, selection, seconds=plan.limits.statement_seconds):
        people = await execute(
            conn,
            statement("batch/select_people").fill(population=population.sql),
            district_id=run.district.district_id,
            today=plan.today,
        )
    await execute(conn, Sql("analyze selected"))
    return people


async def _find_channels(plan: Plan, barring: Barring) -> None:
    """Find the candidates: the people's own channels, their households' phones (D14, D17)."""
    conn = plan.conn
    plan.progress.begin(PlanningStep.FINDING_CHANNELS, len(plan.masks))
    await execute(conn, "batch/create_gathered")
    await execute(conn, "batch/create_candidate")
    for masks in plan.masks:
        household = masks.contact_point is ContactPointKind.HOUSEHOLD_PHONE
        found = statement("batch/gather_households" if household else "batch/gather_people")
        async with plugin_sql(conn, *barring.fragments, seconds=plan.limits.statement_seconds):
            await execute(
                conn,
                found.fill(barred_by=barring.number()),
                district_id=plan.run.district.district_id,
                today=plan.today,
                contact_point=masks.contact_point,
                method=batch_method(masks.contact_point),
                on_mask=masks.on_mask,
                off_mask=masks.off_mask,
            )
        plan.progress.advance()
    await execute(conn, Sql("analyze gathered"))


async def _hold_enabled(plan: Plan) -> None:
    """Raise Rejected where a cell is not enabled, now that it is known who is selected (D15)."""
    gathered = await fetch(plan.conn, "batch/gathered")
    plan.progress.candidates = sum(row["candidates"] for row in gathered)
    on_record = {row["contact_point"] for row in gathered if row["on_record"]}
    named = {masks.contact_point for masks in plan.masks}
    words = out_of_reach(plan.cells, {kind for kind in named if kind not in on_record})
    words |= await switched_off(plan.conn, plan.run.district.district_id, plan.cells)
    if words:
        raise Rejected(not_enabled(words))


async def _fit(plan: Plan) -> int:
    """Narrow the candidates to those of a plan that is to be applied; return how many of it are gone.

    Raises Rejected where the district has switched a cell off since (D15).
    """
    conn, run = plan.conn, plan.run
    words = await switched_off(conn, run.district.district_id, plan.cells)
    if words:
        raise Rejected(not_enabled(words))
    narrowed = await fetchrow(conn, "batch/narrow", **run.key)
    assert narrowed is not None
    plan.progress.candidates = narrowed["candidates"]
    await execute(conn, Sql("analyze gathered"))
    await execute(conn, "batch/begin_applying", **run.key)
    return int(narrowed["gone"])


async def _aim(plan: Plan, weighed: Sql, chunk_size: int) -> int:
    """Write the targets; return the number of people and households to do. Raises PluginError."""
    own = sum(masks.contact_point is not ContactPointKind.HOUSEHOLD_PHONE for masks in plan.masks)
    size = max(1, chunk_size // max(1, own))
    aimed = await fetchrow(plan.conn, statement("batch/aim").fill(weighed=weighed), **plan.run.key, size=size)
    assert aimed is not None
    if aimed["strays"]:
        raise await _astray(plan)
    return int(aimed["total"])


async def _foresee(plan: Plan) -> int:
    """Write a plan that is to be looked at, count what it would do, and keep samples of whom it would change.

    Return the number of people and households to do. Raises PluginError.
    """
    conn, run = plan.conn, plan.run
    await execute(conn, "batch/create_foreseen")
    foresee = statement("batch/foresee").fill(decided=_decided(plan))
    rows = await fetch(conn, foresee, **run.key, samples=_SAMPLES)
    if any(row["asked"] is None for row in rows):
        raise await _astray(plan)
    await count_cells(conn, run, plan.bits, [Tally.from_row(row) for row in rows])
    await count_people(conn, run, plan.today, statement("batch/foreseen"), revision=None)
    return rows[0]["total"] if rows else 0


def _decided(plan: Plan) -> Sql:
    """Return what the run would do with each channel."""
    named = [masks.contact_point for masks in plan.masks]
    people, households = (
        statement("batch/held").fill(**table_slots(household)).having(contact_points=named)
        for household in (False, True)
    )
    held = Sql("{people} union all {households}").fill(people=people, households=households)
    if ContactPointKind.HOUSEHOLD_PHONE not in named:  # else all of them are read for nothing
        held = people
    decided = statement("batch/decided").fill(weighed=statement("batch/weighed"), held=held)
    return decided.having(keep_chosen=plan.run.keep_chosen)


async def _astray(plan: Plan) -> PluginError:
    """Return the error for a rule that denies what is no candidate. There is one."""
    stray = await fetchrow(plan.conn, "batch/stray", **plan.run.key)
    assert stray is not None
    return PluginError(stray["plugin"], f"rule {stray['rule']!r} denies what is no candidate.")


async def _look_back(plan: Plan) -> int:
    """Read what the run to undo has changed, and count what was changed since (D29). Return its population."""
    conn, run = plan.conn, plan.run
    original = await fetchrow(conn, "batch/reverted_run", **run.original)
    assert original is not None
    await execute(conn, "batch/create_undone")
    await execute(conn, "batch/look_back", district_id=run.district.district_id, reverts_run_id=run.reverts)
    await execute(conn, "batch/count_touched", **run.key)
    return int(original["population"])
