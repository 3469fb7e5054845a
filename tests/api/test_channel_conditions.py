"""Rules with a condition deny whole channels where they are found, before other rules are asked (D10, D16)."""

from collections.abc import Sequence
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.hooks import (
    Candidate,
    Deny,
    DistrictReader,
    Rule,
    RuleRequest,
    Setting,
    Sql,
    Verdict,
    hookimpl,
)
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, OFF, Batches, cells, working
from tests.support.builder import DistrictBuilder

BOTH = frozenset({Setting.ON, Setting.OFF})
LONG = Rule(
    "long",
    "The number is too long.",
    deny_channel_when=Sql("length(c.address) > :digits", {"digits": 3}),
    settings=BOTH,
)
ODD = Rule("odd", "The number ends with a 7.", deny_channel_when=Sql("c.address like '%7'"), settings=BOTH)


class Plugin:
    """A plug-in with the rules that a test gives it."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    @hookimpl
    def eligibility_rules(self, request: RuleRequest) -> list[Rule]:
        return list(self.rules)


async def run_with(db: Pool, district: DistrictBuilder, *rules: Rule, **request: Any) -> tuple[Batches, int]:
    """Turn two reasons of the cell phone on and off under a host with these rules."""
    host = PluginHost([resource_folder("plugins")], given={"numbers": Plugin(*rules)})
    async with working(BatchWorker(db, host, chunk_size=2, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        named = (*cells(CELL, "EMERGENCY"), *cells(CELL, "GENERAL", to=OFF))
        return batches, await batches.run(*named, **request)


async def kept_out(batches: Batches, run: int) -> list[tuple[str, int, int]]:
    """Return who was kept out by which rule, and of which bits, a row for each exclusion."""
    query = (
        "select r.rule, x.subject_id, x.reasons from batch_exclusion x"
        " join batch_rule r using (district_id, batch_run_id, rule_no) where batch_run_id = $1 order by 1, 2"
    )
    return [tuple(row.values()) for row in await batches.district.conn.fetch(query, run)]


@pytest.fixture
async def people(district: DistrictBuilder) -> list[int]:
    """Four students: with a good number, a long one, a long one that ends with a 7, and none."""
    school = await district.school()
    made = [await district.student(school, cell_phone=number) for number in ("1", "1234", "1237")]
    made.append(await district.student(school))
    for person in made:
        await district.prefer(person, CELL, on=("GENERAL",))
    return made


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_denied_channel_is_excluded_from_all_cells_by_one_rule(
    db: Pool, district: DistrictBuilder, people: list[int], dry_run: bool
) -> None:
    """Of several conditions the first denies, for ON and OFF, with its own words; other channels are not touched."""
    batches, run = await run_with(db, district, LONG, ODD, dry_run=dry_run)
    every = district.bits.mask(["EMERGENCY", "GENERAL"])
    rules = [("long", people[1], every), ("long", people[2], every), ("on_record", people[3], every)]
    assert await kept_out(batches, run) == rules
    assert await batches.counts(run, CELL, "GENERAL", foreseen=dry_run) == {
        "updated": 1, "unchanged": 0, "overwrote_chosen": 0, "kept_chosen": 0, "excluded": 3, "people_affected": 1
    }  # fmt: skip
    on = [await district.on(person, CELL) for person in people]
    assert on == [["GENERAL"] if dry_run else ["EMERGENCY"], ["GENERAL"], ["GENERAL"], ["GENERAL"]]


async def test_other_rules_are_not_asked_about_a_denied_channel(
    db: Pool, district: DistrictBuilder, people: list[int]
) -> None:
    """A check is given only what is left, and a SELECT over `candidate` finds nothing else: no cell stands twice."""
    asked: list[int | None] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
        asked.extend(candidate.person_id for candidate in candidates)
        return [Deny() for _ in candidates]

    everyone = Rule.where("everyone", "Nobody is called.", Sql("true"), settings=BOTH)
    batches, run = await run_with(db, district, LONG, everyone, Rule("asks", "No.", check=check))
    assert asked == [people[0]]
    rules = [(rule, person) for rule, person, _ in await kept_out(batches, run)]
    assert rules == [
        ("everyone", people[0]),
        ("long", people[1]),
        ("long", people[2]),
        ("on_record", people[3]),
    ]
    assert (await batches.counts(run, CELL, "GENERAL"))["excluded"] == 4


async def test_a_plan_is_applied_without_channels_denied_since(
    db: Pool, host: PluginHost, district: DistrictBuilder, people: list[int]
) -> None:
    """Whose phone has gone since the plan is left out, by the rule, and counted as kept out since (D16)."""
    async with working(BatchWorker(db, host, chunk_size=2, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        run = await batches.run(*cells(CELL, "EMERGENCY"), dry_run=True)
        await district.conn.execute("delete from contact_point where person_id = $1", people[1])
        await batches.apply(run)
    assert [await district.on(person, CELL) for person in people[:2]] == [
        ["EMERGENCY", "GENERAL"],
        ["GENERAL"],
    ]
    assert (await batches.counts(run, CELL, "EMERGENCY"))["excluded"] == 2
    assert await batches.meanwhile(run, CELL, "EMERGENCY") == (0, 1)


@pytest.mark.parametrize(
    ("conditions", "named"),
    [
        (("1 / 0 = 1",), "Plug-in 'numbers': rule 'r0' failed in the database (22012)."),
        (
            ("true", "c.nothing = 1"),
            "Plug-in 'numbers': rule 'r1' failed in the database (42703, line 1, column 1 of its SQL).",
        ),
    ],
)
async def test_a_condition_at_fault_fails_the_run(
    db: Pool, district: DistrictBuilder, people: list[int], conditions: tuple[str, ...], named: str
) -> None:
    """The run ends FAILED, its words name the rule whose SQL is wrong though several share a statement, and nothing is
    written."""
    rules = [
        Rule(f"r{n}", "No.", deny_channel_when=Sql(text), settings=BOTH) for n, text in enumerate(conditions)
    ]
    batches, run = await run_with(db, district, *rules)
    row = await batches.row(run)
    assert row["status"] == "FAILED"
    assert named in row["errors"][0]
    for table in ("batch_exclusion", "batch_rule", "batch_target", "change"):
        assert await district.conn.fetchval(f"select count(*) from {table}") == 0
