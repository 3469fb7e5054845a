"""Rules that are asked where a plan finds its channels: they decide as if they were asked with the others (D10)."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.domain.channels import Method
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
from tests.support.batch import CELL, EMAIL, HOUSEHOLD, OFF, Batches, cells, working
from tests.support.builder import DistrictBuilder

NAMED = (
    *cells(CELL, "STAFF", "GENERAL"),
    *cells(CELL, "TEACHER", to=OFF),
    *cells(HOUSEHOLD, "STAFF", "EMERGENCY"),
    *cells(EMAIL, "GENERAL"),
    *cells(EMAIL, "STAFF", to=OFF),
)


async def allow_all(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
    return [Verdict.ALLOW for _ in candidates]


class Plugin:
    """A plug-in whose rule comes after those of the product; with a check, no rule is asked early."""

    def __init__(self, *, check: bool) -> None:
        tens = Rule.where(
            "later", "No.", Sql("c.address like '%0'"), settings=frozenset({Setting.ON, Setting.OFF})
        )
        self.rules = [tens, Rule("allows", "No.", check=allow_all)] if check else [tens]

    @hookimpl
    def eligibility_rules(self, request: RuleRequest) -> list[Rule]:
        return self.rules


@pytest.fixture
async def people(district: DistrictBuilder) -> list[int]:
    """Eight students, every second with an assignment; some opted out, some without a phone, two in each household."""
    await district.conn.execute("delete from disabled_cell")
    school = await district.school()
    people = []
    for n in range(8):
        phone = {} if n == 7 else {"cell_phone": f"555-{n}{n // 4}"}
        people.append(await district.student(school, f"Sam{n} Lane", email=f"s{n}@x", **phone))
        if n % 4 < 2:
            await district.assign(people[-1])
    for n in (0, 2, 4):
        await district.household(*people[n : n + 2], phone=f"7{n}")
    await district.opt_out("555-00", Method.VOICE)
    await district.opt_out("555-20", Method.VOICE, ("STAFF",))
    await district.opt_out("555-30", Method.VOICE, ("GENERAL",))
    await district.opt_out("72", Method.VOICE)
    return people


async def outcome(batches: Batches, run: int) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a run has left behind: exclusions, counts and preferences."""
    queries = {
        "exclusions": "select r.plugin, r.rule, x.household, x.subject_id, x.contact_point, x.reasons, x.code"
        " from batch_exclusion x join batch_rule r using (district_id, batch_run_id, rule_no)"
        " where batch_run_id = $1 order by 1, 2, 3, 4, 5, 6",
        "forecast": "select contact_point, reason, updated, excluded, people_affected from batch_forecast"
        " where batch_run_id = $1 order by 1, 2",
        "cells": "select contact_point, reason, updated, unchanged, excluded, excluded_since, people_affected"
        " from batch_cell where batch_run_id = $1 order by 1, 2",
        "run": "select status, population, total, left_population from batch_run where batch_run_id = $1",
        "on": "select person_id, contact_point, reasons_on from preference where $1 > 0 order by 1, 2",
        "households": "select household_id, reasons_on from household_preference where $1 > 0 order by 1",
    }
    fetch = batches.district.conn.fetch
    return {name: [tuple(row.values()) for row in await fetch(text, run)] for name, text in queries.items()}


@pytest.mark.parametrize("planned_before", [False, True])
async def test_early_rules_decide_as_if_asked_with_the_others(
    db: Pool, district: DistrictBuilder, people: list[int], planned_before: bool
) -> None:
    """STAFF is denied to the same people, by the rule that comes first, counted and kept out alike, whether it is asked
    where the channels are found or, beside a check, with the other rules; also of a plan that is applied after an
    assignment has ended (D3, D10, D19)."""
    outcomes = []
    for check in (False, True):
        host = PluginHost([resource_folder("plugins")], given={"last": Plugin(check=check)})
        await district.conn.execute("delete from preference; delete from household_preference")
        await district.conn.execute("update district_assignment set end_date = null")
        async with working(BatchWorker(db, host, chunk_size=2, poll_seconds=0.02)) as worker:
            batches = Batches(db, host, district, worker)
            run = await batches.run(*NAMED, dry_run=planned_before)
            if planned_before:
                outcomes.append(await outcome(batches, run))
                await district.conn.execute(
                    "update district_assignment set end_date = $2 where person_id = $1",
                    people[1],
                    date(2020, 1, 1),
                )
                await batches.apply(run)
            outcomes.append(await outcome(batches, run))
    half = len(outcomes) // 2
    assert outcomes[:half] == outcomes[half:]
    rules = {row[1] for row in outcomes[0]["exclusions"]}
    assert rules == {"assignment", "opt_out", "on_record", "later"}
