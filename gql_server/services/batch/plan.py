"""The plan of a run: who is selected, who is excluded from which cells, what is to be done. One transaction."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetch, fetchrow, fetchval, statement
from gql_server.domain import defaults
from gql_server.domain.batch import Cell, PlanningStep, Setting, channel_masks
from gql_server.domain.channels import ContactPointKind, batch_method
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import Role
from gql_server.errors import PluginError
from gql_server.hooks import Cell as RuleCell
from gql_server.hooks import Context, RuleRequest
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.counting import count_cells, count_people, counts_slot
from gql_server.services.batch.plan_candidates import (
    HOUSEHOLD_PHONE,
    find_channels,
    intersect,
    require_enabled,
    select_people,
)
from gql_server.services.batch.plan_context import Plan
from gql_server.services.batch.progress import PlanProgress
from gql_server.services.batch.run import LeaseLost, Run
from gql_server.services.batch.scope import nobody_selected
from gql_server.services.batch.signals import notify_run_changed
from gql_server.services.batch.states import too_old_to_revert
from gql_server.services.batch.targets import (
    Subjects,
    channels_to_write,
    decided,
    everybody,
    subject_ranges,
    write_targets,
)
from gql_server.services.changes import MaskCount, table_slots
from gql_server.services.districts import reason_bits
from gql_server.services.rules.checks import unknown_denial
from gql_server.services.rules.limits import RuleLimits
from gql_server.services.rules.rule_set import RuleSet, applicable_rules

_SAMPLES = 25
_STATEMENT_SECONDS = 600.0
_log = structlog.get_logger(__name__)


async def plan_run(
    db: Database,
    host: PluginHost,
    run: Run,
    *,
    chunk_size: int,
    lease_seconds: float = defaults.LEASE_SECONDS,
    limits: RuleLimits = RuleLimits(),  # noqa: B008
    max_age: float = defaults.PLAN_MAX_AGE,
    progress: PlanProgress | None = None,
) -> None:
    """Plan a run that is PLANNING and leave it APPLYING, or PLANNED. Killed in the middle, it leaves nothing.

    A plan that is being applied is intersected with what has changed since: whoever is no longer selected and
    whatever a rule denies now is taken out and counted; nothing is added. chunk_size: how many channels one
    transaction will write at most. lease_seconds: how long the lease holds. max_age: see `worker.py`. progress:
    where to record how far the plan is.
    Raises Rejected (nobody is selected, a cell is not enabled, or a plug-in that the scope needs is gone),
    PluginError, and LeaseLost.
    """
    async with db.transaction(run.district.district_id, statement_seconds=_STATEMENT_SECONDS) as conn:
        waits = max(limits.check_seconds, host.calls.seconds)
        await fetch(conn, "batch/plan/settings", idle_seconds=lease_seconds + waits)
        plan = await _prepare(db, conn, host, run, limits, progress or PlanProgress())
        if run.reverts is None:
            population, left_population, total = await _plan_batch(plan, chunk_size)
        else:
            population, left_population, total = await _plan_revert(plan, chunk_size)
        await _end(
            plan, population=population, total=total, left_population=left_population, max_age_seconds=max_age
        )


async def _prepare(
    db: Database, conn: Connection, host: PluginHost, run: Run, limits: RuleLimits, progress: PlanProgress
) -> Plan:
    cells = [
        Cell(
            ContactPointKind(row["contact_point"]),
            row["reason"],
            Setting.ON if row["turn_on"] else Setting.OFF,
        )
        for row in await fetch(conn, "batch/run/cells", **run.key)
    ]
    bits = await reason_bits(conn, run.district.district_id, host.reasons)
    masks = channel_masks(cells, bits)
    return Plan(db, conn, host, run, run.district.today(), cells, bits, masks, limits, progress)


async def _plan_batch(plan: Plan, chunk_size: int) -> tuple[int, int | None, int]:
    """Return the size of the population, how many have left it since an earlier plan (None without one), and the total.

    The total is the number of people and households to do.
    """
    conn, run = plan.conn, plan.run
    await execute(conn, "batch/plan/relations")
    rules = (await _number_rules(plan, plan.cells)).with_early(plan.bits)
    await select_people(plan)
    population = await find_channels(plan, rules)
    if population == 0 and run.planned_at is None:
        raise nobody_selected()
    if run.planned_at is None:
        left_population = None
        await require_enabled(plan)
    else:
        left_population = await intersect(plan)
    return population, left_population, await _write_plan(plan, rules, chunk_size)


async def _write_plan(plan: Plan, rules: RuleSet, chunk_size: int) -> int:
    """Ask the rules about the channels that were found, and write who is excluded and what is to do.

    Return the number of people and households to do. Raises PluginError.
    """
    await _ask_rules(plan, rules)
    ranges = everybody(plan) if plan.run.plan_only else await subject_ranges(plan)
    plan.progress.begin(PlanningStep.WRITING_PLAN, 1 + len(ranges))
    await _exclude(plan)
    plan.progress.advance()
    return await (_preview(plan, ranges) if plan.run.plan_only else _write_targets(plan, ranges, chunk_size))


async def _plan_revert(plan: Plan, chunk_size: int) -> tuple[int, None, int]:
    """Read what the run to revert has changed, and count what was changed since (D29). Return as `_plan_batch`.

    Rules are asked about what is turned on again: an opt-out that was recorded since holds (D19). Turning off is never
    prevented, so that conditions, which deny a whole channel, are not asked.
    Raises Rejected: TOO_OLD_TO_REVERT; and PluginError.
    """
    conn, run = plan.conn, plan.run
    await execute(conn, "batch/plan/relations")
    await execute(conn, "batch/revert/create_undone")
    await execute(
        conn, "batch/revert/fill_undone", district_id=run.district.district_id, reverts_run_id=run.reverts
    )
    # Asked afterwards, so that a log that was pruned in the meantime is noticed.
    original = await fetchrow(conn, "batch/revert/reverted_run", **run.reverted_key)
    assert original is not None
    if original["folded"]:
        raise too_old_to_revert()
    await execute(conn, "batch/revert/count_left", **run.key)
    for subjects in everybody(plan):
        household = subjects.household
        find = statement("batch/revert/find_channels").fill(**table_slots(household))
        found = await execute(conn, find, district_id=run.district.district_id, household=household)
        plan.progress.candidates += found
    await execute(conn, Sql("analyze all_channels"))
    rules = await _number_rules(plan, [cell for cell in plan.cells if cell.set is Setting.ON])
    return (
        int(original["population"]),
        None,
        await _write_plan(plan, replace(rules, conditions={}), chunk_size),
    )


async def _end(plan: Plan, **planned: float | None) -> None:
    """End the plan. Raises LeaseLost."""
    if await fetchval(plan.conn, "batch/plan/end", **plan.run.lease_key, today=plan.today, **planned) is None:
        raise LeaseLost
    await notify_run_changed(plan.conn, **plan.run.key)


async def _number_rules(plan: Plan, cells: Sequence[Cell]) -> RuleSet:
    """Record the rules that are about these cells of the run, and return them by their numbers."""
    request = RuleRequest(
        context=Context.BATCH,
        district=plan.run.district.code,
        time_zone=plan.run.district.time_zone,
        role=Role.ADMIN,  # only an administrator submits a batch
        mode=plan.run.mode,
        cells=tuple(
            RuleCell(cell.contact_point, batch_method(cell.contact_point), cell.reason, cell.set)
            for cell in cells
        ),
    )
    rules = applicable_rules(await plan.host.calls.rules(request), request)
    rows = await fetch(
        plan.conn,
        "batch/plan/add_rules",
        **plan.run.key,
        plugins=[owned.plugin for owned in rules],
        rules=[owned.rule.name for owned in rules],
        codes=[owned.rule.code for owned in rules],
        becauses=[owned.rule.because for owned in rules],
        remedies=[owned.rule.remedy for owned in rules],
    )
    numbered = dict(zip(sorted(row["rule_no"] for row in rows), rules, strict=True))
    return RuleSet.of(numbered)


async def _ask_rules(plan: Plan, rules: RuleSet) -> None:
    """Ask the rules about the candidates. The measure of progress is candidates times rules. Raises PluginError."""
    progress, candidates = plan.progress, plan.progress.candidates
    in_sql = len(rules.early) + len(rules.selects)
    progress.begin(PlanningStep.ASKING_RULES, (in_sql + len(rules.checks)) * candidates)
    relation = plan.relation_rules
    for number, owned in rules.checks.items():
        # A check that ends the process leaves no other trace: the last of these lines names who was asked.
        _log.info("batch_check_asked", run=plan.run.run_id, plugin=owned.plugin, rule=owned.rule.name)
        await relation.ask_check(number, owned)
    # Checks may take long. SQL is asked after them, so that what was recorded meanwhile counts (D19).
    await relation.ask_selects(rules.selects)
    await execute(plan.conn, Sql("analyze denial"))  # so that the few are looked up among the many
    progress.advance(in_sql * candidates)


async def _exclude(plan: Plan) -> None:
    """Record whom the rules exclude, and count them."""
    conn, run = plan.conn, plan.run
    if run.plan_only:
        await execute(conn, "batch/plan/begin_forecast", **run.key)
    exclude = statement("batch/plan/exclude").fill(
        first_denials=statement("rules/first_denials"), **counts_slot(run)
    )
    await execute(conn, exclude, **run.key, since=run.planned_at is not None)


async def _write_targets(plan: Plan, ranges: Sequence[Subjects], chunk_size: int) -> int:
    """Write the targets, range by range: so memory is bounded, and progress moves.

    Return the number of people and households to do. Raises PluginError.
    """
    own = sum(masks.contact_point is not HOUSEHOLD_PHONE for masks in plan.masks)
    size = max(1, chunk_size // max(1, own))
    chunks = total = 0
    for subjects in ranges:
        channels = channels_to_write(plan, subjects, size=size)
        row = await write_targets(
            plan.conn, plan.run, channels, household=subjects.household, state="PLANNED", chunks=chunks
        )
        chunks, total = row["chunks"], total + row["total"]
        if row["unknown"]:
            raise await _unknown_denial(plan)
        plan.progress.advance()
    return total


async def _preview(plan: Plan, everybody: Sequence[Subjects]) -> int:
    """Write a plan that is only looked at, count what it would do, and keep samples of whom it would change.

    Return the number of people and households to do. Raises PluginError.
    """
    conn, run = plan.conn, plan.run
    first, *others = (_predicted(plan, subjects) for subjects in everybody)
    both = Sql("{people} union all {households}")
    predicted = both.fill(people=first, households=others[0]) if others else first
    preview = statement("batch/plan/preview").fill(predicted=predicted)
    rows = await fetch(conn, preview, **run.key, samples=_SAMPLES)
    if any(row["asked"] is None for row in rows):
        raise await _unknown_denial(plan)
    await count_cells(conn, run, plan.bits, [MaskCount.from_row(row) for row in rows])
    await count_people(conn, run, plan.today, statement("batch/plan/preview_households"), revision=None)
    return rows[0]["total"] if rows else 0


def _predicted(plan: Plan, subjects: Subjects) -> Sql:
    """Return a SELECT of what the run would do with each channel."""
    channels = channels_to_write(plan, subjects, size=1)  # there are no chunks yet
    predicted = statement("batch/plan/predicted").fill(decided=decided(plan.run, channels))
    return predicted.having(keep_chosen=plan.run.keep_chosen)


async def _unknown_denial(plan: Plan) -> PluginError:
    """Return the error for a rule that denied what is no candidate. There is one."""
    row = await fetchrow(plan.conn, "batch/plan/unknown_denial", **plan.run.key)
    assert row is not None
    return unknown_denial(row["plugin"], row["rule"])
