"""A run undone, and a run cancelled: what still is as the run left it returns to what it was (D18, D28, D29)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.domain.changes import Source
from gql_server.domain.channels import Method
from gql_server.errors import Rejected
from gql_server.hooks import RunSummary, hookimpl
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.apply import apply_chunk
from gql_server.services.batch.plan import plan_run
from gql_server.services.batch.run import LeaseLost
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.log import fold
from tests.support.batch import (
    CELL,
    EMAIL,
    HOUSEHOLD,
    OFF,
    Batches,
    actual,
    cells,
    hearing,
    replayed,
    revisions,
    run_id,
    working,
)
from tests.support.builder import DistrictBuilder
from tests.support.graph import GraphClient
from tests.support.stepping import claim

pytestmark = pytest.mark.slow

NAMED = (
    *cells(CELL, "EMERGENCY", "GENERAL"),
    *cells(EMAIL, "GENERAL", to=OFF),
    *cells(HOUSEHOLD, "EMERGENCY"),
)


@pytest.fixture
async def batches(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[Batches]:
    async with working(BatchWorker(db, host, chunk_size=3, poll_seconds=0.05)) as worker:
        yield Batches(db, host, district, worker)


@pytest.fixture
async def people(db: Pool, host: PluginHost, district: DistrictBuilder) -> list[int]:
    """Nine students in a household each, with choices on and off, all of it by the log."""
    school = await district.school()
    people = [await district.student(school, f"S {n}", cell_phone=f"1{n}", email=f"s{n}@x") for n in range(9)]
    for n, person in enumerate(people):
        await district.household(person, phone=f"2{n}")
    batches = Batches(db, host, district, BatchWorker(db, host))
    await batches.choose(people[0], CELL, on=("EMERGENCY",), off=("GENERAL",))
    await batches.choose(people[1], EMAIL, on=("GENERAL", "ATTENDANCE"))
    await batches.choose(people[2], CELL, on=("ATTENDANCE",), source=Source.ADMIN)
    await batches.choose(people[3], EMAIL, on=("GENERAL",), source=Source.ADMIN)
    return people


async def told(batches: Batches, run: int, fields: str) -> Any:
    client = GraphClient(batches.db, batches.host)
    query = f'{{ batchRun(id: "{run_id(run)}") {{ {fields} }} }}'
    return (await client.query(client.context(batches.district.district), query))["batchRun"]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("keep_chosen", [False, True])
@pytest.mark.parametrize("planned", [False, True])
async def test_a_revert_brings_everything_back(
    batches: Batches, district: DistrictBuilder, keep_chosen: bool, planned: bool
) -> None:
    """Where nothing changed since, all is again as it was, choices that were overwritten chosen again (D18, D29)."""
    before = await actual(district)
    run = await batches.run(*NAMED, keep_chosen=keep_chosen, dry_run=planned)
    if planned:
        await batches.apply(run)
    updated = await district.conn.fetchval("select sum(updated) from batch_cell")
    assert await actual(district) != before
    revert = await batches.revert(run)
    assert revert != run
    assert await actual(district) == before
    assert await replayed(district) == before
    assert [(await batches.row(r))["status"] for r in (run, revert)] == ["REVERTED", "DONE"]
    sets = await district.conn.fetch("select distinct source from change_set where batch_run_id = $1", revert)
    assert [row["source"] for row in sets] == ["REVERT"]
    fields = "mode status reverts { id } revertedBy { id } restored leftAlone progress { done total }"
    answer = await told(batches, revert, fields)
    assert answer["reverts"] == {"id": run_id(run)}
    assert answer["mode"] == "STUDENTS"
    assert answer["restored"] == updated
    assert answer["leftAlone"] == 0
    assert answer["progress"]["done"] == answer["progress"]["total"] > 0
    original = await told(batches, run, fields)
    assert (original["revertedBy"], original["restored"], original["leftAlone"]) == (
        {"id": run_id(revert)}, None, None,
    )  # fmt: skip


async def test_a_revert_turns_nothing_on_for_whom_a_rule_denies_it(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """An opt-out that was recorded after the run holds: the cell stays off, and is told as excluded (D19). Turning
    off is not prevented by it."""
    run = await batches.run(*NAMED)
    await district.opt_out("s1@x", Method.EMAIL)
    await district.opt_out("14", Method.VOICE)
    revert = await batches.revert(run)
    assert await district.on(people[1], EMAIL) == ["ATTENDANCE"]
    assert await district.on(people[3], EMAIL) == ["GENERAL"]
    assert await district.on(people[4], CELL) == []
    counts = await batches.counts(revert, EMAIL, "GENERAL")
    assert (counts["updated"], counts["unchanged"], counts["excluded"]) == (1, 0, 1)
    fields = "exclusions { edges { node { person { id } contactPoint reason code } } }"
    assert [edge["node"] for edge in (await told(batches, revert, fields))["exclusions"]["edges"]] == [
        {
            "person": {"id": f"person_{people[1]}"},
            "contactPoint": "EMAIL",
            "reason": "GENERAL",
            "code": "OPTED_OUT",
        }
    ]
    assert await replayed(district) == await actual(district)


async def test_what_was_changed_since_stays(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """A cell that anybody changed after the run stays as it is, even if it looks as the run left it; its neighbours
    return (D29)."""
    run = await batches.run(*NAMED)
    await batches.choose(people[4], CELL, on=("GENERAL",))  # chosen as the run set it
    await batches.choose(people[5], CELL, off=("GENERAL",), source=Source.ADMIN)
    await batches.choose(people[6], CELL, off=("GENERAL",), source=Source.ADMIN)
    await batches.choose(people[6], CELL, on=("GENERAL",), source=Source.ADMIN)
    await batches.choose(people[7], CELL, on=("FOOD_SERVICE",))  # a cell of which the run knew nothing
    revert = await batches.revert(run)
    assert await district.on(people[4], CELL) == ["GENERAL"]
    assert await district.on(people[5], CELL) == []
    assert await district.on(people[6], CELL) == ["GENERAL"]
    assert await district.on(people[7], CELL) == ["FOOD_SERVICE"]
    assert (await batches.counts(revert, CELL, "GENERAL"))["updated"] == 6
    assert await batches.meanwhile(revert, CELL, "GENERAL") == (3, 0)
    assert (await told(batches, revert, "leftAlone"))["leftAlone"] == 3
    assert await replayed(district) == await actual(district)


async def test_a_later_run_is_a_change_since(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """What a second run turned the other way stays when the first is undone (D29)."""
    first = await batches.run(*cells(CELL, "EMERGENCY", "GENERAL"))
    await batches.run(*cells(CELL, "GENERAL", to=OFF))
    revert = await batches.revert(first)
    assert await district.on(people[4], CELL) == []
    assert await batches.meanwhile(revert, CELL, "GENERAL") == (9, 0)
    assert (await batches.counts(revert, CELL, "EMERGENCY"))["updated"] == 8


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("first", [0, 1])
async def test_reverts_commute(batches: Batches, district: DistrictBuilder, first: int) -> None:
    """When two runs over the same cells are reverted, in either order, nothing of them is left: not what the first
    turned on and the second off, and no choice is lost, also where nothing is turned on or off for it (D29)."""
    before = await actual(district)
    runs = [
        await batches.run(*cells(CELL, "GENERAL", "EMERGENCY", to=OFF), *cells(EMAIL, "GENERAL")),
        await batches.run(*cells(CELL, "GENERAL", "EMERGENCY"), *cells(EMAIL, "GENERAL", to=OFF)),
    ]
    for run in (runs[first], runs[1 - first]):
        await batches.revert(run)
    assert await actual(district) == before
    assert await replayed(district) == before


@pytest.mark.usefixtures("people")
async def test_a_run_whose_log_was_folded_cannot_be_reverted(
    batches: Batches, district: DistrictBuilder
) -> None:
    """What the log no longer holds in full is not undone in part: the request is refused with a code.
    To later runs a folded one is somebody else (D28, D29)."""
    run = await batches.run(*cells(CELL, "GENERAL"))
    late = await batches.run(*cells(CELL, "GENERAL", to=OFF))
    await batches.revert(late)
    left = await actual(district)
    await fold(batches.db, district.id, await district.conn.fetchval("select revision from district"))
    with pytest.raises(Rejected) as refused:
        await batches.revert(run)
    assert [(error.code, error.path) for error in refused.value.errors] == [("TOO_OLD_TO_REVERT", ("id",))]
    again = await batches.run(*cells(CELL, "GENERAL", to=OFF))
    await batches.revert(again)
    assert await actual(district) == left


async def test_a_change_between_plan_and_chunk_stays(
    db: Pool, host: PluginHost, district: DistrictBuilder, people: list[int]
) -> None:
    """What is changed while the revert is under way is looked at again under the locks, and stays (D29)."""
    batches = Batches(db, host, district, BatchWorker(db, host))
    async with working(batches.worker):
        run = await batches.run(*NAMED)
    revert = await batches.revert(run, wait=0)
    held = await claim(db)
    await plan_run(db, host, held, chunk_size=3)
    await apply_chunk(db, held, lease_seconds=30)
    await batches.choose(people[7], CELL, on=("GENERAL",))
    await batches.choose(people[8], CELL, off=("EMERGENCY",), source=Source.ADMIN)
    await district.conn.execute("update batch_run set lease_owner = null where batch_run_id = $1", revert)
    async with working(batches.worker):
        await batches.ended(revert)
    assert await district.on(people[7], CELL) == ["GENERAL"]
    assert await district.on(people[8], CELL) == []
    assert await batches.meanwhile(revert, CELL, "GENERAL") == (1, 0)
    assert await batches.meanwhile(revert, CELL, "EMERGENCY") == (1, 0)
    assert await replayed(district) == await actual(district)


async def test_people_of_changed_households_are_counted(
    batches: Batches, district: DistrictBuilder, people: list[int]
) -> None:
    """A revert counts as a run does: for the household phone all active members of the households restored (D17)."""
    household = await district.conn.fetchval("select min(household_id) from household")
    await district.join(household, people[8])
    run = await batches.run(*cells(HOUSEHOLD, "EMERGENCY"))
    revert = await batches.revert(run)
    assert (await batches.counts(revert, HOUSEHOLD, "EMERGENCY"))["people_affected"] == 9
    results = (await told(batches, revert, "results { contactPoint reason set updated leftAlone }"))[
        "results"
    ]
    assert [cell for cell in results if cell["set"] != "NO_CHANGE"] == [
        {"contactPoint": "HOUSEHOLD_PHONE", "reason": "EMERGENCY", "set": "OFF", "updated": 9, "leftAlone": 0}
    ]


# ── cancelling ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("chunks", [0, 1, 4])
async def test_a_run_cancelled_while_it_applies_is_undone(
    db: Pool, host: PluginHost, district: DistrictBuilder, chunks: int
) -> None:
    """It stops after its chunk and is undone, before what waits behind it; then all is as it was (D21, D29)."""
    before = await actual(district)
    batches = Batches(db, host, district, BatchWorker(db, host, chunk_size=3, poll_seconds=0.05))
    run = await batches.run(*NAMED, wait=0)
    held = await claim(db)
    await plan_run(db, host, held, chunk_size=3)
    for _ in range(chunks):
        await apply_chunk(db, held, lease_seconds=30)
    waiting = await batches.run(*cells(CELL, "EMERGENCY", to=OFF), wait=0, dry_run=False)
    assert await batches.cancel(run) == run
    assert (await batches.row(run))["status"] == "REVERTING"
    with pytest.raises(LeaseLost):
        await apply_chunk(db, held, lease_seconds=30)
    revert = (await told(batches, run, "revertedBy { id }"))["revertedBy"]["id"]
    assert (await told(batches, waiting, "queuedBehind { id reverts { id } }"))["queuedBehind"] == {
        "id": revert, "reverts": {"id": run_id(run)},
    }  # fmt: skip
    await batches.cancel(waiting)
    async with working(batches.worker):
        row = await batches.ended(run)
    assert row["status"] == "REVERTED"
    assert row["finished_at"] is not None
    assert await actual(district) == before
    assert await replayed(district) == before


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("status", ["QUEUED", "PLANNING", "PLANNED", "QUEUED again"])
async def test_what_has_not_applied_ends_at_once(
    db: Pool, host: PluginHost, district: DistrictBuilder, status: str
) -> None:
    """A run cancelled before it applies has written nothing, and nothing of it is left to do (D28)."""
    before = await actual(district)
    revision = await revisions(district)
    batches = Batches(db, host, district, BatchWorker(db, host, chunk_size=3, poll_seconds=0.05))
    run = await batches.run(*NAMED, wait=0, dry_run=status in ("PLANNED", "QUEUED again"))
    if status != "QUEUED":
        held = await claim(db)
    if status in ("PLANNED", "QUEUED again"):
        await plan_run(db, host, held, chunk_size=3)
    if status == "QUEUED again":
        await batches.apply(run, wait=0)
    assert (await batches.row(run))["status"] == status.removesuffix(" again")
    await batches.cancel(run)
    if status == "PLANNING":
        with pytest.raises(LeaseLost):
            await plan_run(db, host, held, chunk_size=3)
    async with working(batches.worker):
        await asyncio.sleep(0.2)
    row = await batches.row(run)
    assert (row["status"], row["lease_owner"]) == ("CANCELLED", None)
    assert await district.conn.fetchval("select count(*) from batch_target") == 0
    assert await actual(district) == before
    assert await revisions(district) == revision


@pytest.mark.usefixtures("people")
async def test_cancelling_stops_a_plan_that_is_being_made(
    db: Pool, host: PluginHost, district: DistrictBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker gives a cancelled plan up while a rule still thinks about it, and works the next run."""
    from gql_server.services.batch import worker as worker_module

    stuck = asyncio.Event()

    async def slowly(*args: Any, **limits: Any) -> None:
        stuck.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "plan_run", slowly)
        worker = BatchWorker(db, host, poll_seconds=0.05, lease_seconds=0.3, workers=1)
        batches = Batches(db, host, district, worker)
        async with working(worker):
            run = await batches.run(*NAMED, wait=0)
            await stuck.wait()
            patch.undo()
            await batches.cancel(run)
            other = await batches.run(*NAMED)
    assert (await batches.row(other))["status"] == "DONE"
    assert (await batches.row(run))["status"] == "CANCELLED"


@pytest.mark.usefixtures("people")
async def test_a_cancelled_revert_lets_the_run_stand(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A revert cancelled before it applies changes nothing: the run is DONE again and can be reverted anew (D29)."""
    batches = Batches(db, host, district, BatchWorker(db, host, poll_seconds=0.05))
    before = await actual(district)
    async with working(batches.worker):
        run = await batches.run(*NAMED)
    revert = await batches.revert(run, wait=0)
    assert (await batches.row(run))["status"] == "REVERTING"
    await batches.cancel(revert)
    assert [(await batches.row(r))["status"] for r in (run, revert)] == ["DONE", "CANCELLED"]
    async with working(batches.worker):
        await batches.revert(run)
    assert await actual(district) == before


@pytest.mark.usefixtures("people")
async def test_a_revert_whose_log_is_folded_meanwhile_fails(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A revert that was asked for before the log was folded fails, says why, and lets the run stand (D28, D29)."""
    batches = Batches(db, host, district, BatchWorker(db, host, poll_seconds=0.05))
    async with working(batches.worker):
        run = await batches.run(*NAMED)
    left = await actual(district)
    revert = await batches.revert(run, wait=0)
    await district.conn.execute("update batch_run set folded = true where batch_run_id = $1", run)
    async with working(batches.worker):
        row = await batches.ended(revert)
    assert (row["status"], (await batches.row(run))["status"]) == ("FAILED", "DONE")
    assert "too old" in row["errors"][0]
    assert await actual(district) == left


@pytest.mark.usefixtures("people")
async def test_cancel_and_worker_race(db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
    """Cancelled at any moment by many at once, one of them is obeyed, and all is as it was before (D28, D29)."""
    before = await actual(district)
    async with working(BatchWorker(db, host, chunk_size=1, poll_seconds=0.02)) as worker:
        batches = Batches(db, host, district, worker)
        for delay in range(12):
            run = await batches.run(*NAMED, wait=0)
            await asyncio.sleep(delay * 0.01)
            results = await asyncio.gather(*(batches.cancel(run) for _ in range(3)), return_exceptions=True)
            assert all(r == run or isinstance(r, Rejected) for r in results)
            assert sum(r == run for r in results) <= 1
            row = await batches.ended(run)
            if row["status"] == "DONE":
                await batches.revert(run)
            assert (await batches.row(run))["status"] in ("CANCELLED", "REVERTED")
            assert await actual(district) == before
    assert await replayed(district) == before


class Listener:
    """A plug-in that keeps which runs ended, and how."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    @hookimpl
    def run_finished(self, run: RunSummary) -> None:
        assert (run.district, run.mode) == ("maple", "STUDENTS")
        self.told.append((run.run_id, run.status))

    async def until(self, number: int) -> list[tuple[str, str]]:
        """Wait for as many ends and return them all."""
        async with asyncio.timeout(10):
            while len(self.told) < number:
                await asyncio.sleep(0.01)
        return self.told


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def listening(db: Pool, district: DistrictBuilder, listener: Listener) -> Batches:
    """Batches whose plug-ins have a listener. Its worker does not work yet."""
    host = PluginHost([resource_folder("plugins")], given={"listener": listener})
    return Batches(db, host, district, BatchWorker(db, host, poll_seconds=0.05))


async def as_in_the_middle(district: DistrictBuilder, run: int) -> None:
    """Let a run that is done look as it does while its chunks are applied."""
    await district.conn.execute(
        "update batch_run set status = 'APPLYING', finished_at = null where batch_run_id = $1", run
    )


@pytest.mark.usefixtures("people")
async def test_plugins_hear_of_every_end(listening: Batches, listener: Listener) -> None:
    """run_finished is told of a run that is done, cancelled, or undone, once each."""
    async with working(listening.worker):
        run = await listening.run(*NAMED)
        plan = await listening.run(*NAMED, dry_run=True)
        await listening.cancel(plan)
        revert = await listening.revert(run)
        assert await listener.until(4) == [
            (run_id(run), "DONE"),
            (run_id(plan), "CANCELLED"),
            (run_id(revert), "DONE"),
            (run_id(run), "REVERTED"),
        ]


@pytest.mark.usefixtures("people")
async def test_plugins_hear_of_a_plan_that_ends_by_its_age(
    listening: Batches, listener: Listener, district: DistrictBuilder
) -> None:
    """run_finished is told of a plan that nobody applied, when it is cancelled after a month; so is who watches it."""
    async with working(listening.worker):
        plan = await listening.run(*NAMED, dry_run=True)
    await district.conn.execute("update batch_run set planned_at = planned_at - interval '31 days'")
    async with hearing(listening.db) as signals:
        with signals.watch(district.id, plan) as changed:
            changed.clear()
            async with working(listening.worker):
                assert await listener.until(1) == [(run_id(plan), "CANCELLED")]
            async with asyncio.timeout(10):
                await changed.wait()


@pytest.mark.usefixtures("people")
async def test_plugins_hear_of_a_cancelled_run_whose_revert_is_cancelled(
    listening: Batches, listener: Listener, district: DistrictBuilder
) -> None:
    """A run that was cancelled in the middle ends with its revert, which is cancelled too: run_finished is told of
    both. A run that had ended before its revert does not end again (D29)."""
    async with working(listening.worker):
        run = await listening.run(*NAMED)
    revert = await listening.revert(run, wait=0)
    await listening.cancel(revert)
    assert await listener.until(2) == [(run_id(run), "DONE"), (run_id(revert), "CANCELLED")]
    await as_in_the_middle(district, run)
    listener.told.clear()
    await listening.cancel(run)
    revert = await district.conn.fetchval("select max(batch_run_id) from batch_run")
    await listening.cancel(revert)
    assert await listener.until(2) == [(run_id(revert), "CANCELLED"), (run_id(run), "CANCELLED")]
    assert (await listening.row(run))["status"] == "CANCELLED"


@pytest.mark.usefixtures("people")
async def test_plugins_hear_of_a_cancelled_run_whose_revert_fails(
    listening: Batches, listener: Listener, district: DistrictBuilder
) -> None:
    """A run that was cancelled in the middle ends with its revert, which fails: run_finished is told of both (D29)."""
    async with working(listening.worker):
        run = await listening.run(*NAMED)
    await as_in_the_middle(district, run)
    listener.told.clear()
    await listening.cancel(run)
    revert = await district.conn.fetchval("select max(batch_run_id) from batch_run")
    await district.conn.execute("update batch_run set claims = 100 where batch_run_id = $1", revert)
    async with working(listening.worker):
        assert await listener.until(2) == [(run_id(revert), "FAILED"), (run_id(run), "CANCELLED")]
