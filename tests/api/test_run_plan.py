"""A dry run, and the plan applied: exactly what was shown, but for what has ceased to fit (D15-D21)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.domain.changes import Source
from gql_server.domain.channels import Method
from gql_server.hooks import Rule, RuleRequest, Sql, hookimpl
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import (
    CELL,
    EMAIL,
    HOUSEHOLD,
    OFF,
    Batches,
    actual,
    cells,
    replayed,
    revisions,
    run_id,
    working,
)
from tests.support.builder import ENDED, DistrictBuilder
from tests.support.graph import GraphClient

pytestmark = pytest.mark.slow

NAMED = (
    *cells(CELL, "EMERGENCY", "GENERAL"),
    *cells(EMAIL, "GENERAL", to=OFF),
    *cells(HOUSEHOLD, "EMERGENCY"),
)
COUNTS = "select * from {} where batch_run_id = $1 order by contact_point, reason"
DIFFERENCE = "difference { leftPopulation choseSince excludedSince outdated }"

TWO_CHANNELS = Rule.where(
    "two_channels",
    "Nobody is reached in one way alone.",
    Sql(
        "(select count(*) from candidate x where x.household = c.household and x.subject_id = c.subject_id) < 2"
    ),
)
WITH_HOUSEHOLD = Rule.where(
    "with_household",
    "Nobody is reached unless the households are.",
    Sql("not c.household and not exists (select from candidate x where x.household)"),
)
THREE_CANDIDATES = Rule.where(
    "three_candidates", "That is enough.", Sql("(select count(*) from candidate) <> 3")
)
WHOLE_REQUEST = Rule.where(
    "whole_request",
    "A channel is set for both reasons.",
    Sql("(select bit_or(x.on_mask) from candidate x) <> (select bit_or(1::bigint << r.bit) from contact_reason r"
        " where r.district_id = :district_id and r.code in ('EMERGENCY', 'GENERAL'))"),
)  # fmt: skip


class Ruling:
    """A plug-in that gives one rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    @hookimpl
    def eligibility_rules(self, request: RuleRequest) -> list[Rule]:
        return [self.rule]


@pytest.fixture
async def batches(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[Batches]:
    async with working(BatchWorker(db, host, chunk_size=3, poll_seconds=0.05)) as worker:
        yield Batches(db, host, district, worker)


@pytest.fixture
async def people(district: DistrictBuilder) -> list[int]:
    """Eight students in four households: choices, opt-outs, missing contact points, things already as asked."""
    school = await district.school()
    people = [await district.student(school, f"S {n}", cell_phone=f"1{n}", email=f"s{n}@x") for n in range(7)]
    people.append(await district.student(school, "S 7", email="s7@x"))
    for n in range(0, 8, 2):
        await district.household(people[n], people[n + 1], phone=f"2{n}")
    await district.prefer(people[0], CELL, on=("EMERGENCY",), chosen=("EMERGENCY", "GENERAL"))
    await district.prefer(people[1], CELL, on=("EMERGENCY", "GENERAL"))
    await district.prefer(people[2], EMAIL, on=("GENERAL",), chosen=("GENERAL",))
    await district.prefer(people[3], EMAIL, on=("GENERAL",))
    await district.opt_out("14", Method.VOICE)
    return people


async def counted(batches: Batches, run: int, *, foreseen: bool = False) -> list[tuple[Any, ...]]:
    """Return the counts of all cells of what a run did, or of what its plan foresaw."""
    counts = COUNTS.format("batch_forecast" if foreseen else "batch_cell")
    return [tuple(row.values())[2:] for row in await batches.district.conn.fetch(counts, run)]


async def told(batches: Batches, run: int, fields: str) -> Any:
    """Return fields of a run, as the API tells them."""
    client = GraphClient(batches.db, batches.host)
    query = f'{{ batchRun(id: "{run_id(run)}") {{ {fields} }} }}'
    return (await client.query(client.context(batches.district.district), query))["batchRun"]


@pytest.mark.parametrize("keep_chosen", [False, True])
@pytest.mark.usefixtures("people")
async def test_a_plan_foresees_what_its_application_does(
    batches: Batches, district: DistrictBuilder, keep_chosen: bool
) -> None:
    """Every count at PLANNED is that at DONE where nothing changed between, choices among them (D16-D20); the plan
    itself writes no preference and takes no revision (D28)."""
    before = await actual(district)
    run = await batches.run(*NAMED, dry_run=True, keep_chosen=keep_chosen)
    row = await batches.row(run)
    assert (row["status"], row["done"], row["population"], row["lease_owner"]) == ("PLANNED", 0, 8, None)
    foreseen, excluded = await counted(batches, run, foreseen=True), await batches.kept_out(run)
    assert all(row[3:] == (0,) * len(row[3:]) for row in await counted(batches, run))
    assert await actual(district) == before
    assert await revisions(district) == []
    assert await batches.apply(run) == run
    row = await batches.row(run)
    assert (row["status"], row["population"], row["done"]) == ("DONE", 8, row["total"])
    assert await counted(batches, run) == foreseen == await counted(batches, run, foreseen=True)
    assert await batches.kept_out(run) == excluded
    # emergency and general: one choice each way; two cells differ from the start
    assert (await batches.counts(run, EMAIL, "GENERAL"))["kept_chosen"] == (1 if keep_chosen else 0)
    assert await told(batches, run, f"dryRun {DIFFERENCE}") == {
        "dryRun": True,
        "difference": {"leftPopulation": 0, "choseSince": 0, "excludedSince": 0, "outdated": False},
    }


async def test_a_plan_is_what_the_same_run_would_do(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """A plan, then applied, leaves what a run that was never planned leaves: the same counts and preferences (D20)."""
    await batches.apply(await batches.run(*NAMED, dry_run=True))
    planned = await actual(district), await counted(batches, 1)
    await district.conn.execute("delete from preference; delete from household_preference")
    await district.prefer(people[0], CELL, on=("EMERGENCY",), chosen=("EMERGENCY", "GENERAL"))
    await district.prefer(people[1], CELL, on=("EMERGENCY", "GENERAL"))
    await district.prefer(people[2], EMAIL, on=("GENERAL",), chosen=("GENERAL",))
    await district.prefer(people[3], EMAIL, on=("GENERAL",))
    run = await batches.run(*NAMED)
    assert (await actual(district), await counted(batches, run)) == planned
    assert await told(batches, run, f"samples {{ cells {{ reason }} }} {DIFFERENCE}") == {
        "samples": [],
        "difference": None,
    }


async def test_samples_show_who_would_change(batches: Batches, people: list[int]) -> None:
    """Of a plan each sample is somebody it would change, with the cells; nobody else (D20)."""
    await batches.choose(people[5], CELL, on=("EMERGENCY", "GENERAL"))
    await batches.choose(people[5], EMAIL, off=("GENERAL",))
    run = await batches.run(*NAMED, dry_run=True)
    fields = "samples(first: 50) { person { firstName lastName } household { id } cells { contactPoint reason set } }"
    samples = (await told(batches, run, fields))["samples"]
    households = [sample for sample in samples if sample["household"]]
    assert len(households) == 4
    assert all(
        s["cells"] == [{"contactPoint": "HOUSEHOLD_PHONE", "reason": "EMERGENCY", "set": "ON"}]
        for s in households
    )
    shown = {s["person"]["lastName"]: s["cells"] for s in samples if s["person"]}
    assert {*shown} == {"0", "2", "3", "6"}  # 1 and 5 are as asked, 4 opted out, 7 has nothing on
    assert shown["0"] == [{"contactPoint": "CELL_PHONE", "reason": "GENERAL", "set": "ON"}]
    assert {"contactPoint": "EMAIL", "reason": "GENERAL", "set": "OFF"} in shown["2"]
    assert len((await told(batches, run, "samples(first: 2) { cells { reason } }"))["samples"]) == 2


async def test_what_people_chose_since_stays(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """A cell that someone has set themselves since the plan is left alone and counted; a choice that the plan knew of
    is overwritten as it said (D18)."""
    run = await batches.run(*NAMED, dry_run=True)
    assert (await batches.counts(run, CELL, "GENERAL", foreseen=True))["overwrote_chosen"] == 1
    await batches.choose(people[3], CELL, off=("GENERAL",))
    await batches.choose(people[5], CELL, on=("GENERAL",))  # as the plan would have it: nothing is left to do
    household = (await district.conn.fetchval("select min(household_id) from household")) or 0
    await batches.choose(household, HOUSEHOLD, off=("EMERGENCY",))
    await batches.apply(run)
    assert await district.on(people[3], CELL) == ["EMERGENCY"]
    assert await batches.household_on(household) == []
    counts = await batches.counts(run, CELL, "GENERAL")
    assert (counts["overwrote_chosen"], counts["kept_chosen"]) == (1, 0)
    assert await batches.meanwhile(run, CELL, "GENERAL") == (1, 0)
    assert (await told(batches, run, DIFFERENCE))["difference"]["choseSince"] == 2
    row = await batches.row(run)
    assert (row["status"], row["done"]) == ("DONE", row["total"])


async def test_a_choice_that_the_plan_did_not_overwrite_is_not_overwritten_later(
    batches: Batches, people: list[int], district: DistrictBuilder
) -> None:
    """Whoever had chosen what the plan asks for, and then chooses otherwise, keeps that: the plan told of nobody whose
    choice it overwrites (D18)."""
    await batches.choose(people[0], CELL, on=("FOOD_SERVICE",))
    run = await batches.run(*cells(CELL, "FOOD_SERVICE"), dry_run=True)
    await batches.choose(people[0], CELL, off=("FOOD_SERVICE",))
    await batches.apply(run)
    assert "FOOD_SERVICE" not in await district.on(people[0], CELL)
    assert (await told(batches, run, DIFFERENCE))["difference"]["choseSince"] == 1


async def test_kept_choices_and_later_ones_are_told_apart(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """With keepChosen a choice that the plan knew of counts as kept, one made since as left alone (D18)."""
    run = await batches.run(*NAMED, dry_run=True, keep_chosen=True)
    await batches.choose(people[3], CELL, off=("GENERAL",))
    await batches.apply(run)
    assert (await batches.counts(run, CELL, "GENERAL"))["kept_chosen"] == 1
    assert await batches.meanwhile(run, CELL, "GENERAL") == (1, 0)
    assert await district.on(people[0], CELL) == ["EMERGENCY"]
    assert await district.on(people[3], CELL) == ["EMERGENCY"]


async def test_an_administrators_setting_is_no_choice(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """What somebody else has set since the plan is set by it all the same (D18, D22)."""
    run = await batches.run(*NAMED, dry_run=True)
    await batches.choose(people[3], CELL, off=("GENERAL",), source=Source.ADMIN)
    await batches.choose(people[3], EMAIL, off=("GENERAL",), source=Source.ADMIN)
    await batches.apply(run)
    assert await district.on(people[3], CELL) == ["EMERGENCY", "GENERAL"]
    assert (await told(batches, run, DIFFERENCE))["difference"]["choseSince"] == 0
    assert (await batches.counts(run, EMAIL, "GENERAL"))["updated"] == 1


async def test_who_left_is_skipped_and_who_came_is_not_touched(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """People of the plan who are selected no more are left out and counted; nobody is added (D12)."""
    run = await batches.run(*NAMED, dry_run=True)
    await district.conn.execute(
        "update enrollment set start_date = $1, end_date = $2 where person_id = any($3)", *ENDED, people[2:4]
    )
    late = await district.student(await district.school("Birch"), "Late", cell_phone="99", email="l@x")
    await batches.apply(run)
    for person in (people[2], people[3], late):
        assert await district.on(person, CELL) == []
    assert await district.on(people[2], EMAIL) == ["GENERAL"]
    difference = (await told(batches, run, DIFFERENCE))["difference"]
    assert (difference["leftPopulation"], difference["excludedSince"]) == (
        3,
        0,
    )  # two people, their household
    row = await batches.row(run)
    assert (row["status"], row["population"], row["done"]) == ("DONE", 8, row["total"])


async def test_an_opt_out_recorded_since_holds(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """A stop that came after the plan keeps the channel off; the exclusion says so, and no cell stands twice (D19)."""
    run = await batches.run(*NAMED, dry_run=True)
    before = await batches.kept_out(run)
    await district.opt_out("15", Method.VOICE)
    await district.opt_out("20", Method.VOICE)
    await batches.apply(run)
    assert await district.on(people[5], CELL) == []
    assert await district.on(people[6], CELL) == ["EMERGENCY", "GENERAL"]
    added = await batches.kept_out(run) - before
    assert {(plugin, household, reasons) for plugin, household, _, _, reasons in added} == {
        ("opt_outs", False, ("EMERGENCY", "GENERAL")),
        ("opt_outs", True, ("EMERGENCY",)),
    }
    assert before < await batches.kept_out(run)
    assert await batches.meanwhile(run, CELL, "GENERAL") == (0, 1)
    assert (await batches.counts(run, CELL, "GENERAL"))["excluded"] == 3
    assert (await told(batches, run, DIFFERENCE))["difference"]["excludedSince"] == 3


@pytest.mark.usefixtures("people")
async def test_who_was_kept_out_is_counted_once(batches: Batches) -> None:
    """Of a channel that a rule keeps out of one cell and the plan changes in another, the rule's answer counts once,
    when the plan is applied too: with nothing changed between, nothing is kept out only since (D20)."""
    named = (*cells(EMAIL, "STAFF"), *cells(EMAIL, "GENERAL", to=OFF))
    run = await batches.run(*named, dry_run=True)
    kept_out = await batches.kept_out(run)
    await batches.apply(run)
    assert (await batches.counts(run, EMAIL, "STAFF"))["excluded"] == 8
    assert (await told(batches, run, DIFFERENCE))["difference"]["excludedSince"] == 0
    listed = await told(batches, run, "exclusions { edges { node { person { id } contactPoint reason } } }")
    assert len(listed["exclusions"]["edges"]) == 8
    assert await batches.kept_out(run) == kept_out


async def test_a_lifted_opt_out_adds_nobody(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """Whom the plan left out is left out, even if the rule would let them in by now (D19)."""
    run = await batches.run(*NAMED, dry_run=True)
    await district.conn.execute("update opt_out set lifted_at = now()")
    await batches.apply(run)
    assert await district.on(people[4], CELL) == []
    assert (await batches.counts(run, CELL, "GENERAL"))["excluded"] == 2


@pytest.mark.parametrize(
    "rule", [TWO_CHANNELS, WITH_HOUSEHOLD, THREE_CANDIDATES, WHOLE_REQUEST], ids=lambda r: r.name
)
async def test_rules_see_the_candidates_of_the_plan(db: Pool, district: DistrictBuilder, rule: Rule) -> None:
    """A rule that looks at all candidates answers the same when the plan is applied: it sees the channels that the plan
    excluded too, with all that the request sets, and nobody who has joined since (D20)."""
    school = await district.school()
    student = await district.student(school, cell_phone="1", email="s@x")
    await district.household(student, phone="2")
    await district.opt_out("1", Method.VOICE)
    await district.opt_out("2", Method.VOICE)
    await district.opt_out("s@x", Method.EMAIL, ("GENERAL",))
    host = PluginHost([resource_folder("plugins")], given={"mine": Ruling(rule)})
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        named = [each for kind in (CELL, EMAIL, HOUSEHOLD) for each in cells(kind, "EMERGENCY", "GENERAL")]
        run = await batches.run(*named, dry_run=True)
        foreseen, excluded = await counted(batches, run, foreseen=True), await batches.kept_out(run)
        assert (await batches.counts(run, EMAIL, "EMERGENCY", foreseen=True))["updated"] == 1
        late = await district.student(school, cell_phone="9", email="late@x")
        await batches.apply(run)
        assert await counted(batches, run) == foreseen
        assert await batches.kept_out(run) == excluded
        assert (await told(batches, run, DIFFERENCE))["difference"]["excludedSince"] == 0
        assert await district.on(student, EMAIL) == ["EMERGENCY"]
        assert await district.on(student, CELL) == await district.on(late, EMAIL) == []


@pytest.mark.usefixtures("people")
async def test_a_plan_whose_ground_is_gone_fails(batches: Batches, district: DistrictBuilder) -> None:
    """A cell switched off since the plan fails the run in words; nothing is written (D15)."""
    run = await batches.run(*NAMED, dry_run=True)
    await district.conn.execute("insert into disabled_cell values ($1, 'CELL_PHONE', 'GENERAL')", district.id)
    before = await actual(district)
    await batches.apply(run)
    row = await batches.row(run)
    assert row["status"] == "FAILED"
    assert "the district has switched it off" in row["errors"][0]
    assert await actual(district) == before
    assert await district.conn.fetchval("select count(*) from batch_target") == 0


@pytest.mark.usefixtures("people")
async def test_an_old_plan_says_that_it_is(db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
    """A plan beyond the age that the settings allow is applied where it fits, and reported as outdated."""
    async with working(BatchWorker(db, host, poll_seconds=0.05, plan_max_age=3600)) as worker:
        batches = Batches(db, host, district, worker)
        run = await batches.run(*NAMED, dry_run=True)
        await district.conn.execute("update batch_run set planned_at = planned_at - interval '61 minutes'")
        await batches.apply(run)
        assert (await batches.row(run))["status"] == "DONE"
        assert (await told(batches, run, DIFFERENCE))["difference"]["outdated"] is True


@pytest.mark.usefixtures("people")
async def test_a_plan_that_nobody_applies_ends(db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
    """After a month a plan is cancelled in words, and takes no more room."""
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        run = await batches.run(*NAMED, dry_run=True)
        await district.conn.execute("update batch_run set planned_at = planned_at - interval '31 days'")
        await worker._clean_up()
    row = await batches.row(run)
    assert (row["status"], row["errors"]) == (
        "CANCELLED",
        ["The plan was not applied within 30 days. Make a new one."],
    )
    assert await district.conn.fetchval("select count(*) from batch_target") == 0


@pytest.mark.usefixtures("people")
async def test_the_log_of_an_applied_plan_is_that_of_the_run(
    batches: Batches, district: DistrictBuilder
) -> None:
    """All change sets of an applied plan bear its run; a second such plan foresees that nothing is to do (D28)."""
    await district.conn.execute("delete from preference")
    run = await batches.apply(await batches.run(*NAMED, dry_run=True))
    rows = await district.conn.fetch("select distinct source, batch_run_id from change_set")
    assert [tuple(row.values()) for row in rows] == [("BATCH", run)]
    assert await replayed(district) == await actual(district)
    again = await batches.run(*NAMED, dry_run=True)
    assert all(
        row["updated"] == 0 for row in await district.conn.fetch(COUNTS.format("batch_forecast"), again)
    )
    assert await told(batches, again, "status samples { cells { reason } }") == {
        "status": "PLANNED",
        "samples": [],
    }
