"""The plan of a run: who is selected, who is kept out of which cells, what is to be done. One transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetch, fetchrow, fetchval, statement
from gql_server.domain.batch import Cell, ChannelMasks, Setting, channel_masks
from gql_server.domain.channels import ContactPointKind, batch_method
from gql_server.domain.reasons import ReasonBits
from gql_server.errors import PluginError, Rejected
from gql_server.hooks import Context, Request, Sql
from gql_server.hooks.host import OwnedRule, PluginHost
from gql_server.services.batch.enabled import not_enabled, out_of_reach, switched_off
from gql_server.services.batch.plan_rules import PlanRules
from gql_server.services.batch.rules import blaming
from gql_server.services.batch.run import LeaseLost, Run
from gql_server.services.batch.scope import resolve_scope
from gql_server.services.districts import reason_bits


@dataclass(frozen=True, slots=True)
class Plan:
    """What all steps of a plan need."""

    conn: Connection
    run: Run
    today: date
    cells: Sequence[Cell]
    bits: ReasonBits
    masks: Sequence[ChannelMasks]


async def plan_run(db: Database, host: PluginHost, run: Run, *, chunk_size: int) -> None:
    """Plan a run that is PLANNING and leave it APPLYING. Killed in the middle, it leaves nothing.

    `chunk_size` is the number of channels, at most, that one transaction will write.
    Raises Rejected (the scope no longer holds, or D15), PluginError, and LeaseLost.
    """
    async with db.transaction() as conn:
        await fetch(conn, "batch/plan_settings")
        cells = await _cells(conn, run)
        bits = await reason_bits(conn, run.district.district_id)
        plan = Plan(conn, run, run.district.today(), cells, bits, channel_masks(cells, bits))
        population = await _select(plan, host)
        await _gather(plan)
        await _hold_enabled(plan)
        rules = host.rules(Request(Context.BATCH, run.mode, tuple(cells)))
        await PlanRules(db, conn, run, plan.masks, bits, plan.today).ask(rules)
        total = await _aim(plan, rules, chunk_size)
        planned = await fetchval(
            conn, "batch/planned", **run.held, today=plan.today, population=population, total=total
        )
        if planned is None:
            raise LeaseLost


async def _cells(conn: Connection, run: Run) -> list[Cell]:
    return [
        Cell(
            ContactPointKind(row["contact_point"]),
            row["reason"],
            Setting.ON if row["turn_on"] else Setting.OFF,
        )
        for row in await fetch(conn, "batch/cells", **run.key)
    ]


async def _select(plan: Plan, host: PluginHost) -> int:
    """Select the people by the mode's plug-in and return their number."""
    run, conn = plan.run, plan.conn
    scope = await resolve_scope(conn, run.district, host, run.mode, run.scope)
    population = host.population(run.mode, scope)
    await execute(conn, "batch/create_selected")
    with blaming(host.modes[run.mode].plugin, f"the selection of the mode {run.mode!r}"):
        people = await execute(
            conn,
            statement("batch/select_people").fill(population=population.sql),
            district_id=run.district.district_id,
            today=plan.today,
        )
    if await fetchval(conn, "batch/selects_twice"):
        raise PluginError(host.modes[run.mode].plugin, f"the mode {run.mode!r} selects a person twice.")
    await execute(conn, Sql("analyze selected"))
    return people


async def _gather(plan: Plan) -> None:
    """Gather the candidates: the people's own channels, their households' phones (D14, D17)."""
    conn, district_id = plan.conn, plan.run.district.district_id
    await execute(conn, "batch/create_candidate")
    own = [masks for masks in plan.masks if masks.contact_point is not ContactPointKind.HOUSEHOLD_PHONE]
    if own:
        await execute(
            conn,
            "batch/person_candidates",
            district_id=district_id,
            contact_points=[masks.contact_point for masks in own],
            methods=[batch_method(masks.contact_point) for masks in own],
            on_masks=[masks.on_mask for masks in own],
            off_masks=[masks.off_mask for masks in own],
        )
    for masks in plan.masks:
        if masks.contact_point is ContactPointKind.HOUSEHOLD_PHONE:
            await execute(
                conn,
                "batch/household_candidates",
                district_id=district_id,
                today=plan.today,
                contact_point=masks.contact_point,
                method=batch_method(masks.contact_point),
                on_mask=masks.on_mask,
                off_mask=masks.off_mask,
            )
    await execute(conn, Sql("analyze candidate"))


async def _hold_enabled(plan: Plan) -> None:
    """Raise Rejected where a cell is not enabled, now that it is known who is selected (D15)."""
    on_record = {row["contact_point"] for row in await fetch(plan.conn, "batch/on_record")}
    named = {masks.contact_point for masks in plan.masks}
    words = out_of_reach(plan.cells, {kind for kind in named if kind not in on_record})
    words |= await switched_off(plan.conn, plan.run.district.district_id, plan.cells)
    if words:
        raise Rejected(not_enabled(words))


async def _aim(plan: Plan, rules: Sequence[OwnedRule], chunk_size: int) -> int:
    """Write the exclusions and the targets; return the number of people and households to do."""
    await execute(plan.conn, "batch/exclude", **plan.run.key)
    own = sum(masks.contact_point is not ContactPointKind.HOUSEHOLD_PHONE for masks in plan.masks)
    size = max(1, chunk_size // max(1, own))
    aimed = await fetchrow(plan.conn, "batch/aim", **plan.run.key, size=size)
    assert aimed is not None
    if aimed["strays"]:
        stray = rules[await fetchval(plan.conn, "batch/stray") - 1]
        raise PluginError(stray.plugin, f"rule {stray.rule.name!r} denies what is no candidate.")
    return int(aimed["total"])
