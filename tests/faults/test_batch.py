"""Runs that are killed, taken over, crowded or cut off: they end as if nothing had happened (D21, D28)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from gql_server.services.batch import worker as worker_module
from gql_server.services.batch.apply import apply_chunk
from gql_server.services.batch.plan import plan_run
from gql_server.services.batch.run import LeaseLost, Run
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, HOUSEHOLD, Batches, actual, cells, replayed, revisions, working
from tests.support.builder import DistrictBuilder
from tests.support.stepping import claim

pytestmark = pytest.mark.slow

NAMED = (*cells(CELL, "EMERGENCY", "GENERAL"), *cells(HOUSEHOLD, "EMERGENCY"))


async def populate(district: DistrictBuilder, number: int = 9) -> None:
    school = await district.school()
    for n in range(number):
        student = await district.student(school, cell_phone=str(n))
        await district.household(student, phone=str(n))
    await district.prefer(student, CELL, on=("GENERAL",), chosen=("EMERGENCY",))


async def outcome(batches: Batches, run: int) -> tuple[Any, ...]:
    """Return all that a run left: its counts, the preferences and the log without times and numbers."""
    conn = batches.district.conn
    counted = await conn.fetch(
        "select * from batch_cell where batch_run_id = $1 order by contact_point, reason", run
    )
    logged = await conn.fetch(
        "select kind, subject_id - (select min(person_id) from person p where p.district_id = c.district_id) as who,"
        " contact_point, turned_on, turned_off, chosen, unchosen from subject_change c where district_id = $1"
        " and subject = 'PERSON' order by revision, subject_id", batches.district.id,
    )  # fmt: skip
    row = await batches.row(run)
    first = min(key[0] or 10**9 for key in await actual(batches.district))
    state = {
        ((key[0] and key[0] - first), key[2], masks)
        for key, masks in (await actual(batches.district)).items()
        if key[0]
    }
    return (
        [tuple(c.values())[2:] for c in counted], [tuple(change.values()) for change in logged], state,
        row["status"], row["population"], row["total"], row["done"], len(await revisions(batches.district)),
    )  # fmt: skip


async def undisturbed(db: Pool, host: PluginHost) -> tuple[Any, ...]:
    """Return what the same run leaves in a district of its own where nothing happens to it."""
    async with db.acquire() as conn:
        calm = await DistrictBuilder.create(conn, host, "calm")
        await populate(calm)
        async with working(BatchWorker(db, host, chunk_size=2, poll_seconds=0.05)) as worker:
            batches = Batches(db, host, calm, worker)
            return await outcome(batches, await batches.run(*NAMED))


@pytest.mark.parametrize("chunks", [None, 0, 1, 3, 7])
async def test_a_run_is_taken_over_where_it_stands(
    db: Pool, host: PluginHost, district: DistrictBuilder, chunks: int | None
) -> None:
    """A worker that died after its claim, its plan or any chunk leaves a run that another ends, with the same
    preferences, counts and log as if nothing had happened (D28)."""
    expected = await undisturbed(db, host)
    await populate(district)
    batches = Batches(db, host, district, BatchWorker(db, host, chunk_size=2, poll_seconds=0.05))
    run = await batches.run(*NAMED, wait=0)
    dead = await claim(db, "dead")
    if chunks is not None:
        await plan_run(db, host, dead, chunk_size=2)
        for _ in range(chunks):
            await apply_chunk(db, dead, lease_seconds=30)
    async with working(batches.worker):
        await asyncio.sleep(0.3)
        assert (await batches.row(run))["lease_owner"] == "dead"
        await district.conn.execute("update batch_run set lease_expires_at = now() - interval '1 s'")
        await batches.ended(run)
    assert await outcome(batches, run) == expected
    assert {key: on for key, on in (await replayed(district)).items() if key[1]} == {
        key: on for key, on in (await actual(district)).items() if key[1]
    }


async def test_a_worker_that_lost_its_lease_writes_nothing(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A worker that slept while another took its run over can neither plan, apply nor end it."""
    await populate(district)
    batches = Batches(db, host, district, BatchWorker(db, host))
    run = await batches.run(*NAMED, wait=0)
    slept = await claim(db, "slept")
    await district.conn.execute("update batch_run set lease_expires_at = now() - interval '1 s'")
    awake = await claim(db, "awake")
    with pytest.raises(LeaseLost):
        await plan_run(db, host, slept, chunk_size=2)
    await plan_run(db, host, awake, chunk_size=2)
    with pytest.raises(LeaseLost):
        await apply_chunk(db, slept, lease_seconds=30)
    assert await actual(district) == {
        key: masks
        for key, masks in (await actual(district)).items()
        if masks == (1 << district.bits["GENERAL"], 1)
    }
    assert (await batches.row(run))["lease_owner"] == "awake"


async def test_one_run_at_a_time_works_in_a_district(
    db: Pool, host: PluginHost, district: DistrictBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of runs submitted at once to several workers one works; the others wait, visibly, in their order; another
    district does not wait (D21)."""
    await populate(district)
    gate, planned = asyncio.Event(), list[int]()

    async def slowly(db: Any, host: Any, run: Run, **limits: Any) -> None:
        planned.append(run.batch_run_id)
        await gate.wait()
        await plan_run(db, host, run, **limits)

    monkeypatch.setattr(worker_module, "plan_run", slowly)
    workers = [BatchWorker(db, host, poll_seconds=0.05) for _ in range(2)]
    async with working(workers[0]), working(workers[1]), db.acquire() as conn:
        ours = Batches(db, host, district, workers[0])
        birch = await DistrictBuilder.create(conn, host, "birch")
        await populate(birch)
        theirs = Batches(db, host, birch, workers[1])
        runs = [await ours.run(*NAMED, wait=0) for _ in range(3)]
        other = await theirs.run(*NAMED, wait=0)
        await asyncio.sleep(0.3)
        assert planned == [runs[0], other] or planned == [other, runs[0]]
        assert [(await ours.row(run))["status"] for run in runs] == ["PLANNING", "QUEUED", "QUEUED"]
        gate.set()
        for run in runs:
            assert (await ours.ended(run))["status"] == "DONE"
        assert [run for run in planned if run != other] == runs
    assert (await ours.counts(runs[0], HOUSEHOLD, "EMERGENCY"))["updated"] == 9
    assert (await ours.counts(runs[2], HOUSEHOLD, "EMERGENCY"))["unchanged"] == 9


async def test_a_stopped_worker_hands_its_run_on(
    db: Pool, host: PluginHost, district: DistrictBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops gives its run up, so that another need not wait for the lease to expire."""
    await populate(district)
    started = asyncio.Event()

    async def stuck(*_: Any, **__: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "apply_chunk", stuck)
        async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
            batches = Batches(db, host, district, worker)
            run = await batches.run(*NAMED, wait=0)
            await started.wait()
    assert (await batches.row(run))["lease_owner"] is None
    async with working(BatchWorker(db, host, poll_seconds=0.05)):
        assert (await batches.ended(run))["status"] == "DONE"


@pytest.mark.parametrize("step", ["plan_run", "apply_chunk", "finish_run"])
async def test_a_lost_connection_is_survived(
    db: Pool, host: PluginHost, district: DistrictBuilder, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A database connection that is cut in any step costs that step alone: the worker goes on (D28)."""
    expected = await undisturbed(db, host)
    await populate(district)
    work: Callable[..., Any] = getattr(worker_module, step)
    cut = False

    async def cutting(*args: Any, **kwargs: Any) -> Any:
        nonlocal cut
        if cut:
            return await work(*args, **kwargs)
        cut = True
        task = asyncio.create_task(work(*args, **kwargs))
        await asyncio.sleep(0.005)
        await district.conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and datname = current_database()"
        )
        return await task

    monkeypatch.setattr(worker_module, step, cutting)
    async with working(BatchWorker(db, host, chunk_size=2, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        run = await batches.run(*NAMED, wait=30)
    assert cut
    assert await outcome(batches, run) == expected


async def test_an_error_in_the_server_ends_the_run_alone(
    db: Pool, host: PluginHost, district: DistrictBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody expected fails the one run, in words without a trace of the inside; the worker works on."""
    await populate(district)

    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("secret")

    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        with monkeypatch.context() as patch:
            patch.setattr(worker_module, "plan_run", broken)
            row = await batches.row(await batches.run(*NAMED))
        assert row["status"] == "FAILED"
        assert "secret" not in row["errors"][0]
        assert (await batches.row(await batches.run(*NAMED)))["status"] == "DONE"


async def test_leftovers_of_ended_runs_are_removed(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A worker killed right after the end of a run leaves its plan; the next worker to start removes it."""
    await populate(district)
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        run = await Batches(db, host, district, worker).run(*NAMED)
    await district.insert(
        "batch_target", batch_run_id=run, chunk=1, household=False, contact_point="EMAIL",
        method="EMAIL", bucket=0, changes=True, on_masks=[1], subjects=1, channels=1, subject_ids=[1],
    )  # fmt: skip
    async with working(BatchWorker(db, host, poll_seconds=0.05)), asyncio.timeout(10):
        while await district.conn.fetchval("select count(*) from batch_target"):
            await asyncio.sleep(0.02)
    assert await district.conn.fetchval("select count(*) from batch_target") == 0


async def test_a_run_whose_chunks_are_missing_fails(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A run that cannot do all that it planned ends FAILED: it neither says DONE nor keeps its worker busy."""
    await populate(district)
    batches = Batches(db, host, district, BatchWorker(db, host))
    run = await batches.run(*NAMED, wait=0)
    await plan_run(db, host, await claim(db, "dead"), chunk_size=2)
    await district.conn.execute("delete from batch_target where chunk > 2")
    await district.conn.execute("update batch_run set lease_owner = null, lease_expires_at = null")
    async with working(BatchWorker(db, host, poll_seconds=0.05)):
        row = await batches.ended(run)
    assert (row["status"], row["chunks_done"]) == ("FAILED", 2)


async def test_a_lost_connection_hides_no_cancellation(db: Pool) -> None:
    """Who is cancelled while the connection is gone ends, and does not go on as if only that were wrong: a server
    that is told to stop stops."""
    waits = asyncio.Event()

    async def work() -> None:
        async with db.transaction() as conn:
            pid = await conn.fetchval("select pg_backend_pid()")
            async with db.acquire() as other:
                await other.execute("select pg_terminate_backend($1)", pid)
            waits.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
