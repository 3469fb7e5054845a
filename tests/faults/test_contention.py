"""Chunks of a run whose preferences somebody else writes at the same time: no write is lost, and nothing deadlocks.

A chunk is written without locking its rows first. What was changed after the plan is written by a second transaction.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import statement
from gql_server.domain.changes import Source
from gql_server.domain.channels import batch_method
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.apply import apply_chunk, finish_run
from gql_server.services.batch.plan import plan_run
from gql_server.services.batch.run import Run
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.changes import ChangeSet, ConcurrentInsert, table_slots, write_preferences
from tests.support.batch import (
    CELL,
    EMAIL,
    HOUSEHOLD,
    OFF,
    Batches,
    actual,
    cells,
    replayed,
    run_id,
    working,
)
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving
from tests.support.stepping import claim

pytestmark = pytest.mark.slow

WRITE = """mutation write($input: SetPreferencesInput!) {
  setPreferences(input: $input) { person { id } userErrors { code } }
}"""
PEOPLE = 12


@pytest.fixture
async def batches(db: Pool, host: PluginHost, district: DistrictBuilder) -> Batches:
    """A district of students with a cell phone, an email and a household each, and nobody who works its runs."""
    school, students = await district.school(), []
    for n in range(PEOPLE):
        students.append(await district.student(school, cell_phone=str(n), email=f"{n}@x"))
        await district.household(students[-1], phone=str(n))
    made = Batches(db, host, district, BatchWorker(db, host, chunk_size=5, poll_seconds=0.02))
    for student in students[1::2]:
        await made.choose(student, CELL, on=("ATTENDANCE",))
    return made


async def people(batches: Batches) -> list[int]:
    rows = await batches.district.conn.fetch("select person_id from person order by person_id")
    return [row["person_id"] for row in rows]


async def planned(batches: Batches, *named: Any, chunk_size: int = 100, **options: Any) -> Run:
    """Submit a batch and plan it, in the place of a worker."""
    await batches.run(*named, wait=0, **options)
    return await plan(batches, chunk_size)


async def plan(batches: Batches, chunk_size: int = 100) -> Run:
    """Plan the next run in the queue."""
    run = await claim(batches.db, "me")
    await plan_run(batches.db, batches.host, run, chunk_size=chunk_size)
    return run


async def applied(batches: Batches, run: Run) -> list[int]:
    """Apply all that is left of a run, finish it, and return the numbers of preferences that each step changed."""
    steps = []
    while (written := await apply_chunk(batches.db, run, lease_seconds=30)) is not None:
        steps.append(written.preferences)
    await finish_run(batches.db, run)
    return steps


@asynccontextmanager
async def writing(batches: Batches, subject: int, kind: Any, **masks: tuple[str, ...]) -> AsyncIterator[None]:
    """Write as an administrator, and commit at the end of the block."""
    bits = batches.district.bits
    target = statement("preference/cells").fill(**table_slots(kind is HOUSEHOLD)).having(
        subject_id=subject, contact_points=[kind], methods=[batch_method(kind)],
        on_masks=[bits.mask(masks.get("on", ()))], off_masks=[bits.mask(masks.get("off", ()))],
    )  # fmt: skip
    async with batches.db.transaction() as conn:
        await write_preferences(
            conn, ChangeSet(batches.district.id, Source.ADMIN, "ada"), target, household=kind is HOUSEHOLD
        )
        yield


async def until_it_waits(batches: Batches) -> None:
    """Wait until some connection waits for a lock."""
    query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        while not await batches.district.conn.fetchval(query):
            await asyncio.sleep(0.01)


async def assert_told(batches: Batches, run: Run) -> None:
    """Assert that the log tells what is on record (D28), and that the counts of a run are what its log tells (D20)."""
    assert await replayed(batches.district) == await actual(batches.district)
    logged = await batches.district.conn.fetch(
        "select cell.updated,"
        " count(*) filter (where (c.turned_on | c.turned_off) & (1::bigint << r.bit) <> 0) as logged"
        " from batch_cell cell join contact_reason r on r.code = cell.reason"
        " left join change_set s on s.batch_run_id = cell.batch_run_id"
        " left join subject_change c on c.revision = s.revision and c.contact_point = cell.contact_point"
        " where cell.batch_run_id = $1 group by cell.contact_point, cell.reason, cell.updated", run.batch_run_id,
    )  # fmt: skip
    assert logged
    for row in logged:
        assert row["updated"] == row["logged"], dict(row.items())
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    assert await batches.district.conn.fetchval(deadlocks) == 0


async def left_over(batches: Batches) -> list[int]:
    """Return who is to be written under locks."""
    rows = await batches.district.conn.fetch(
        "select unnest(subject_ids) as subject_id from batch_target where state = 'CHANGED' order by 1"
    )
    return [row["subject_id"] for row in rows]


async def test_a_row_that_is_locked_is_written_by_itself_and_the_others_at_once(batches: Batches) -> None:
    """Somebody else's write, not committed yet, holds a chunk up; once it is there the chunk writes the others, and
    then that one, in another change set (D28)."""
    person = (await people(batches))[5]
    run = await planned(batches, *cells(CELL, "ATTENDANCE", "GENERAL"))
    async with writing(batches, person, CELL, off=("ATTENDANCE",)):
        step = asyncio.create_task(apply_chunk(batches.db, run, lease_seconds=30))
        await until_it_waits(batches)
        assert not step.done()
    written = await step
    assert written is not None
    # Six have ATTENDANCE already, and six have no row; of the odd five GENERAL changes, of the even six both.
    assert written.preferences == 5 + 6 * 2
    assert await left_over(batches) == [person]
    assert (await batches.row(run.batch_run_id))["done"] == 0
    assert await applied(batches, run) == [2]
    assert await batches.district.on(person, CELL) == ["ATTENDANCE", "GENERAL"]
    assert (await batches.row(run.batch_run_id))["done"] == PEOPLE
    counts = await batches.counts(run.batch_run_id, CELL, "ATTENDANCE")
    assert (counts["updated"], counts["unchanged"], counts["overwrote_chosen"]) == (7, 5, 0)
    await assert_told(batches, run)


@pytest.mark.parametrize("kind", [CELL, EMAIL, HOUSEHOLD])
async def test_a_row_that_is_inserted_meanwhile_is_kept_back(batches: Batches, kind: Any) -> None:
    """A preference that is set for the first time between the plan and its chunk loses nothing: the run adds to it,
    for people and households (D28)."""
    run = await planned(batches, *cells(kind, "GENERAL"))
    table, subject = ("household", "household_id") if kind is HOUSEHOLD else ("person", "person_id")
    number = await batches.district.conn.fetchval(f"select min({subject}) from {table}")
    async with writing(batches, number, kind, on=("EMERGENCY",)):
        step = asyncio.create_task(apply_chunk(batches.db, run, lease_seconds=30))
        await until_it_waits(batches)
    await step
    assert await left_over(batches) == [number]
    assert await applied(batches, run) == [1]
    on = batches.household_on(number) if kind is HOUSEHOLD else batches.district.on(number, kind)
    assert await on == ["EMERGENCY", "GENERAL"]
    counts = await batches.counts(run.batch_run_id, kind, "GENERAL")
    assert (counts["updated"], counts["people_affected"]) == (PEOPLE, PEOPLE)
    await assert_told(batches, run)


async def test_an_insert_that_is_not_committed_when_rows_are_locked_is_waited_for(batches: Batches) -> None:
    """A row that is kept back and inserted by somebody else just then is tried again, and not lost (D28)."""
    person, other = (await people(batches))[:3:2]
    run = await planned(batches, *cells(EMAIL, "GENERAL"))
    await batches.choose(person, EMAIL, on=("EMERGENCY",), source=Source.ADMIN)
    await batches.choose(other, EMAIL, on=("EMERGENCY",), source=Source.ADMIN)
    await apply_chunk(batches.db, run, lease_seconds=30)
    assert await left_over(batches) == [person, other]
    await batches.district.conn.execute("delete from preference where person_id = $1", other)
    async with writing(batches, other, EMAIL, on=("EMERGENCY",)):
        step = asyncio.create_task(applied(batches, run))
        await until_it_waits(batches)
    assert await step == [2]
    for each in (person, other):
        assert await batches.district.on(each, EMAIL) == ["EMERGENCY", "GENERAL"]


async def test_a_row_that_was_changed_and_changed_back_is_written(batches: Batches) -> None:
    """What is again as the plan read it is set as asked, whether or not it is found in its place (D18)."""
    person = (await people(batches))[1]
    run = await planned(batches, *cells(CELL, "GENERAL"))
    for change in ({"on": ("EMERGENCY",)}, {"off": ("EMERGENCY",)}):
        await batches.choose(person, CELL, **change, source=Source.ADMIN)
    assert sum(await applied(batches, run)) == PEOPLE
    assert await batches.district.on(person, CELL) == ["ATTENDANCE", "GENERAL"]
    await assert_told(batches, run)


async def test_what_was_already_as_asked_must_still_be_so(batches: Batches) -> None:
    """A preference that the plan found on, and that is off when its chunk is written, is turned on (D18, D20)."""
    person = (await people(batches))[1]
    run = await planned(batches, *cells(CELL, "ATTENDANCE"))
    await batches.choose(person, CELL, off=("ATTENDANCE",), source=Source.ADMIN)
    assert await applied(batches, run) == [6, 1]
    assert await batches.district.on(person, CELL) == ["ATTENDANCE"]
    counts = await batches.counts(run.batch_run_id, CELL, "ATTENDANCE")
    assert (counts["updated"], counts["unchanged"]) == (7, 5)
    await assert_told(batches, run)


async def test_all_of_a_chunk_may_have_been_changed(batches: Batches) -> None:
    """A chunk of which nothing is as the plan read it writes nothing at first, and then everything (D28)."""
    run = await planned(batches, *cells(CELL, "GENERAL"))
    for person in await people(batches):
        await batches.choose(person, CELL, on=("EMERGENCY",), source=Source.ADMIN)
    assert await applied(batches, run) == [0, PEOPLE]
    await assert_told(batches, run)


async def test_places_that_are_wrong_change_nothing_of_the_result(batches: Batches) -> None:
    """Rows that maintenance has moved to other places are found under locks; a place where another row stands now is
    not taken for the one that stood there (D28)."""
    run = await planned(batches, *cells(CELL, "GENERAL"))
    await batches.district.conn.execute("vacuum full preference")
    await batches.district.conn.execute(
        "update batch_target set places = (select array_agg(place order by place) from unnest(places) place)"
    )
    assert sum(await applied(batches, run)) == PEOPLE
    await assert_told(batches, run)


async def test_a_row_in_its_place_with_other_masks_is_kept_back(batches: Batches) -> None:
    """The place of a row alone does not say that it is as the plan read it: PostgreSQL uses places again (D28)."""
    person = (await people(batches))[1]
    run = await planned(batches, *cells(CELL, "GENERAL"))
    await batches.choose(person, CELL, on=("EMERGENCY",), source=Source.ADMIN)
    await batches.district.conn.execute(
        "update batch_target t set places = (select array_agg(p.ctid order by s.person_id)"
        " from unnest(t.subject_ids) s (person_id) left join preference p using (person_id))"
    )
    assert await applied(batches, run) == [PEOPLE - 1, 1]
    assert await batches.district.on(person, CELL) == ["EMERGENCY", "ATTENDANCE", "GENERAL"]
    await assert_told(batches, run)


async def test_a_choice_made_after_a_plan_is_left_alone(batches: Batches) -> None:
    """With `keepChosen` what people choose between the plan and its chunk stays, and is counted (D18)."""
    person = (await people(batches))[0]
    run = await planned(batches, *cells(CELL, "ATTENDANCE", to=OFF), keep_chosen=True)
    await batches.choose(person, CELL, on=("ATTENDANCE",))
    assert await applied(batches, run) == [0, 0]
    assert await batches.district.on(person, CELL) == ["ATTENDANCE"]
    assert (await batches.counts(run.batch_run_id, CELL, "ATTENDANCE"))["kept_chosen"] == 7


async def test_a_revert_leaves_alone_what_is_changed_before_its_chunk(batches: Batches) -> None:
    """Of a person whom somebody writes to between the plan of a revert and its chunk, the bits that were changed stay
    and are counted, and the others are restored (D29)."""
    person = (await people(batches))[0]
    run = await planned(batches, *cells(CELL, "GENERAL", "PRIORITY"))
    await applied(batches, run)
    await batches.revert(run.batch_run_id, wait=0)
    revert = await plan(batches)
    await batches.choose(person, CELL, off=("GENERAL",), on=("EMERGENCY",), source=Source.ADMIN)
    assert await applied(batches, revert) == [2 * (PEOPLE - 1), 1]
    assert await batches.district.on(person, CELL) == ["EMERGENCY"]
    assert await batches.meanwhile(revert.batch_run_id, CELL, "GENERAL") == (1, 0)
    assert await batches.meanwhile(revert.batch_run_id, CELL, "PRIORITY") == (0, 0)
    assert (await batches.row(run.batch_run_id))["status"] == "REVERTED"
    await assert_told(batches, revert)


async def test_a_worker_may_die_between_the_two_transactions(batches: Batches) -> None:
    """What a dead worker has kept back is written by the next one, once (D21, D28)."""
    person = (await people(batches))[3]
    run = await planned(batches, *cells(CELL, "GENERAL"), *cells(HOUSEHOLD, "GENERAL"), chunk_size=5)
    await batches.choose(person, CELL, on=("EMERGENCY",), source=Source.ADMIN)
    await apply_chunk(batches.db, run, lease_seconds=30)
    assert await left_over(batches) == [person]
    await batches.district.conn.execute("update batch_run set lease_expires_at = now() - interval '1 s'")
    async with working(batches.worker):
        row = await batches.ended(run.batch_run_id)
    assert (row["status"], row["done"]) == ("DONE", row["total"])
    assert await batches.district.on(person, CELL) == ["EMERGENCY", "ATTENDANCE", "GENERAL"]
    for kind in (CELL, HOUSEHOLD):
        assert (await batches.counts(run.batch_run_id, kind, "GENERAL"))["updated"] == PEOPLE
    await assert_told(batches, run)


async def write_while(
    batches: Batches, server: TestServer, persons: list[int], stop: asyncio.Event, seed: int
) -> int:
    """Write to random people and households until told to stop: through the API, and as people choose themselves."""
    chance, number = random.Random(seed), 0
    while not stop.is_set():
        number += 1
        person, on = chance.choice(persons), chance.random() < 0.5
        reasons = chance.sample(["EMERGENCY", "ATTENDANCE", "GENERAL"], chance.randint(1, 2))
        if chance.random() < 0.3:
            kind = chance.choice((CELL, EMAIL))
            with suppress(ConcurrentInsert):  # it has written nothing, and a service would try again
                await batches.choose(person, kind, **{"on" if on else "off": tuple(reasons)})
            continue
        named = [
            {"contactPoint": point, "method": method, "reason": reason, "on": on}
            for point, method in chance.sample(
                [("CELL_PHONE", "VOICE"), ("EMAIL", "EMAIL")], chance.randint(1, 2)
            )
            for reason in reasons
        ]
        given = {"input": {"personId": f"person_{person}", "cells": named}}
        answer = await server.run(WRITE, given, token=server.token(Role.ADMIN))
        assert answer["setPreferences"]["userErrors"] == []
    return number


async def settled(batches: Batches, act: Callable[[], Awaitable[int]]) -> Run:
    """Do something that ends in a run, and assert that the run has answered for each of its channels once."""
    number = await act()
    row = await batches.ended(number)
    assert row["status"] == "DONE", row["errors"]
    return Run.from_row({**row, "code": "maple", "time_zone": "UTC", "claims": 0}, "me")


@pytest.mark.parametrize("seed", range(3))
async def test_runs_and_writes_to_the_same_people(
    db: Pool, host: PluginHost, batches: Batches, seed: int
) -> None:
    """Four writers set the same people's preferences while runs set, keep, plan and revert them: every write is logged
    in the order in which it took effect, each run's counts are its log, each channel is counted once, no answer is
    an error, and PostgreSQL finds no deadlock (D18, D20, D28, D29)."""
    stop, persons = asyncio.Event(), await people(batches)
    named = (*cells(CELL, "GENERAL", "ATTENDANCE"), *cells(EMAIL, "GENERAL", to=OFF))

    async def dry_run() -> int:
        return await batches.apply(await batches.run(*named, dry_run=True))

    async with serving(db, host, "maple") as server, working(batches.worker):
        writers = [
            asyncio.create_task(write_while(batches, server, persons, stop, 10 * seed + n)) for n in range(4)
        ]
        runs = []
        try:
            for keep in (False, True):
                run = await settled(batches, lambda keep=keep: batches.run(*named, keep_chosen=keep))
                runs += [run, await settled(batches, dry_run)]
            reverts = [
                await settled(batches, lambda run=run: batches.revert(run.batch_run_id)) for run in runs
            ]
        finally:
            stop.set()
        assert min(await asyncio.gather(*writers)) > 0
    for run in runs:
        await assert_told(batches, run)
        for kind, reason in ((CELL, "GENERAL"), (CELL, "ATTENDANCE"), (EMAIL, "GENERAL")):
            counts = await batches.counts(run.batch_run_id, kind, reason)
            left, _ = await batches.meanwhile(run.batch_run_id, kind, reason)
            told = counts["updated"] + counts["unchanged"] + counts["kept_chosen"] + left
            assert told == PEOPLE, run_id(run.batch_run_id)
    for revert in reverts:
        await assert_told(batches, revert)
