"""Rules in Python: called in chunks, with a time limit, failing closed, and without delaying anybody else."""

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
import structlog

from gql_server.db.pool import Pool
from gql_server.domain.channels import Method
from gql_server.hooks import Candidate, Deny, DistrictReader, Verdict
from gql_server.services.rules.limits import CHECK_CHUNK
from tests.support.batch import CELL, HOUSEHOLD, cells
from tests.support.builder import DistrictBuilder
from tests.support.checks import crowd, on_this_loop, run_checking

pytestmark = pytest.mark.slow


async def test_every_candidate_is_asked_once_in_chunks(db: Pool, district: DistrictBuilder) -> None:
    """A check gets every candidate once, in key order, at most a thousand at a time. What it denies is excluded, with
    its words."""
    first = await crowd(district, 2_500)
    home = await district.household(first, phone="2")
    asked: list[list[Candidate]] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
        asked.append(list(candidates))
        denied = Deny(because="Every tenth.")
        return [denied if (c.person_id or 1) % 10 == 0 else Verdict.ALLOW for c in candidates]

    batches, row = await run_checking(
        db, district, check, *cells(CELL, "EMERGENCY"), *cells(HOUSEHOLD, "GENERAL")
    )
    assert row["status"] == "DONE"
    assert [len(chunk) for chunk in asked] == [CHECK_CHUNK, CHECK_CHUNK, 501]
    everyone = [c for chunk in asked for c in chunk]
    people = [c.person_id for c in everyone if c.person_id is not None]
    assert people == sorted({*people})
    assert len(people) == 2_500
    assert everyone[0].address == str(first)
    assert [(c.household_id, c.contact_point, c.address) for c in everyone[2_500:]] == [
        (home, HOUSEHOLD, "2")
    ]
    kept_out = await batches.kept_out(row["batch_run_id"])
    assert len(kept_out) == 250
    words = await district.conn.fetch("select distinct because from batch_exclusion")
    assert [w["because"] for w in words] == ["Every tenth."]


async def test_a_check_that_takes_too_long_stops_the_run(db: Pool, district: DistrictBuilder) -> None:
    """After the time limit of the settings the run fails and names the plug-in. Nothing is written."""
    person = await crowd(district, 3)

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
        await asyncio.sleep(60)
        return [Verdict.ALLOW] * len(candidates)

    _, row = await run_checking(db, district, check, check_seconds=0.2)
    assert row["errors"] == ["Plug-in 'odd': rule 'looks' took longer than 0.2 s."]
    assert await district.on(person, CELL) == []


async def test_no_word_about_a_person_is_told(db: Pool, district: DistrictBuilder) -> None:
    """The run's errors and the log name the plug-in, the rule, the exception's type and its place, and repeat its words
    except those about people. A stack trace may hold more, and is not logged."""
    await crowd(district, 3)
    await district.person("Ada Lane")

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
        raise ValueError(f"Ada Lane of {candidates[0].address} is amiss")

    with structlog.testing.capture_logs() as logged:
        _, row = await run_checking(db, district, check)
    assert row["status"] == "FAILED"
    assert row["errors"] == ["Plug-in 'odd': rule 'looks' failed: ValueError. It says: … … of … is amiss"]
    entries = [entry for entry in logged if entry["event"] == "batch_run_failed"]
    assert [entry["errors"] for entry in entries] == [row["errors"]]
    assert "test_check_rules.py:" in entries[0]["where"]
    assert "Ada" not in json.dumps(logged)
    assert "Traceback" not in json.dumps(logged)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_plan_fails_as_a_run_does(db: Pool, district: DistrictBuilder, dry_run: bool) -> None:
    """A check that leaves a candidate unanswered fails a run and a plan alike: FAILED, with the plug-in's name."""
    await crowd(district, 3)

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
        return [Verdict.ALLOW] * (len(candidates) - 1)

    _, row = await run_checking(db, district, check, dry_run=dry_run)
    assert row["status"] == "FAILED"
    assert row["errors"][0].startswith("Plug-in 'odd': rule 'looks' must give one verdict for each candidate")
    assert await district.conn.fetchval("select count(*) from change") == 0


async def test_a_lost_connection_is_not_the_rules_fault(db: Pool, district: DistrictBuilder) -> None:
    """A run whose rule loses the database while it reads is not failed: it is worked again."""
    await crowd(district, 3)
    cut: list[bool] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
        if not cut:
            cut.append(True)
            await reader.fetch("select pg_terminate_backend(pg_backend_pid())")
        return [Verdict.ALLOW] * len(candidates)

    _, row = await run_checking(db, district, check)
    assert (row["status"], row["errors"]) == ("DONE", [])


async def test_a_waiting_check_holds_no_connection(db: Pool, district: DistrictBuilder) -> None:
    """While a rule waits for something else, and between its reads, it holds no connection of the pool."""
    await crowd(district, 3)
    idle: list[object] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
        await reader.fetch("select person_id from person where district_id = :district_id")
        await asyncio.sleep(0.1)
        (row,) = await reader.fetch(
            "select count(*) as number from pg_stat_activity where datname = current_database()"
            " and state like 'idle in transaction%'"
            " and state_change < clock_timestamp() - interval '80 ms'"
        )
        idle.append(row["number"])
        return [Verdict.ALLOW] * len(candidates)

    _, row = await run_checking(db, district, check)
    assert row["status"] == "DONE"
    assert idle == [1]  # the plan's own


async def test_a_slow_check_does_not_hold_up_the_loop(db: Pool, district: DistrictBuilder) -> None:
    """While a check looks at many candidates, portal requests are answered in between."""
    await crowd(district, 30_000)
    turns, asked = 0, []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
        asked.append(turns)
        return [Deny() if c.person_id == 7 else Verdict.ALLOW for c in candidates]

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watching = asyncio.create_task(watch())
    _, row = await run_checking(db, district, check, dry_run=True)
    watching.cancel()
    assert row["status"] == "PLANNED"
    assert len(asked) > 1
    assert all(before < after for before, after in pairwise(asked))


async def test_an_opt_out_that_is_recorded_while_a_check_is_asked_holds(
    db: Pool, district: DistrictBuilder
) -> None:
    """A plan asks rules in SQL after rules in Python, which may take long: a legal stop of that time counts (D19)."""
    person, during = await crowd(district, 1), on_this_loop()

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        await during(district.opt_out(str(person), Method.VOICE))
        return [Verdict.ALLOW] * len(candidates)

    batches, row = await run_checking(db, district, check)
    assert row["status"] == "DONE"
    assert len(await batches.kept_out(row["batch_run_id"])) == 1
    assert await district.on(person, CELL) == []
