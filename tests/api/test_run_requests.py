"""What may be asked of runs: the queue, idempotency keys, and what is refused, in words (D21, D28)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import Forbidden, Rejected
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.plan import plan_run
from gql_server.services.batch.request import BatchRequest, ScopeInput
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, EMAIL, OFF, Batches, actual, admin, cells, run_id, working
from tests.support.builder import DistrictBuilder
from tests.support.graph import GraphClient
from tests.support.server import serving
from tests.support.stepping import claim_any

pytestmark = pytest.mark.slow

NAMED = cells(CELL, "EMERGENCY")
ACTIONS = ("apply", "cancel", "revert")


@pytest.fixture
async def resting(db: Pool, host: PluginHost, district: DistrictBuilder) -> Batches:
    """Batches of a district with two students, and a worker that nobody has started."""
    school = await district.school()
    for n in range(2):
        await district.student(school, cell_phone=f"1{n}", email=f"s{n}@x")
    return Batches(db, host, district, BatchWorker(db, host, chunk_size=1, poll_seconds=0.05))


@pytest.fixture
async def batches(resting: Batches) -> AsyncIterator[Batches]:
    async with working(resting.worker):
        yield resting


async def code_of(work: Any) -> str | None:
    """Return the code of what is refused, with the path, or None for what is not."""
    try:
        await work
    except Rejected as refusal:
        errors = refusal.errors
    else:
        return None
    assert all(error.message.endswith(".") and error.path for error in errors)
    return " ".join(error.code for error in errors)


async def count(batches: Batches, table: str) -> int:
    return int(await batches.district.conn.fetchval(f"select count(*) from {table}"))


# ── the queue ───────────────────────────────────────────────────────────────────────────────────


async def behind(batches: Batches, *runs: int) -> list[int | None]:
    """Return behind which run each one waits, as the API tells it."""
    client = GraphClient(batches.db, batches.host)
    fields = " ".join(
        f'r{n}: batchRun(id: "{run_id(run)}") {{ queuedBehind {{ id }} }}' for n, run in enumerate(runs)
    )
    told = await client.query(client.context(batches.district.district), f"{{ {fields} }}")
    waits = [told[f"r{n}"]["queuedBehind"] for n in range(len(runs))]
    return [None if run is None else int(run["id"].removeprefix("run_")) for run in waits]


async def test_each_waits_behind_the_one_before(resting: Batches) -> None:
    """Runs wait in the order of request and say behind which; a plan waits for nobody, and nobody for it (D21)."""
    first = await resting.run(*NAMED, wait=0)
    second = await resting.run(*NAMED, wait=0)
    plan = await resting.run(*NAMED, wait=0, dry_run=True)
    third = await resting.run(*NAMED, wait=0)
    assert await behind(resting, first, second, plan, third) == [None, first, None, second]
    worked = [await claim_any(resting.db, owner) for owner in ("a", "b", "c")]
    assert [run.batch_run_id if run else None for run in worked] == [first, plan, None]
    assert await behind(resting, first, second, plan, third) == [None, first, None, second]


async def test_an_applied_plan_queues_from_then_on(resting: Batches) -> None:
    """The place of a plan in the queue is that of the moment when it was applied, not of when it was made (D21)."""
    plan = await resting.run(*NAMED, wait=0, dry_run=True)
    made = await claim_any(resting.db, "a")
    assert made is not None
    await plan_run(resting.db, resting.host, made, chunk_size=1)
    first = await resting.run(*cells(CELL, "EMERGENCY", to=OFF), wait=0)
    assert (await claim_any(resting.db, "b")) is not None
    await resting.apply(plan, wait=0)
    second = await resting.run(*NAMED, wait=0)
    assert await behind(resting, plan, second) == [first, plan]
    assert await claim_any(resting.db, "c") is None
    await resting.district.conn.execute("update batch_run set lease_owner = null where status = 'PLANNING'")
    async with working(resting.worker):
        await resting.ended(second)
    ends = await resting.district.conn.fetch("select batch_run_id from batch_run order by finished_at")
    assert [row["batch_run_id"] for row in ends] == [first, plan, second]


async def test_plans_are_made_while_a_run_works(resting: Batches) -> None:
    """A plan is made beside a run that applies, by another worker, and shows what is so far (D21)."""
    await resting.run(*NAMED, wait=0)
    held = await claim_any(resting.db, "dead")
    assert held is not None
    async with working(resting.worker):
        plan = await resting.run(*NAMED, dry_run=True)
        assert (await resting.row(plan))["status"] == "PLANNED"
        assert (await resting.counts(plan, CELL, "EMERGENCY", foreseen=True))["updated"] == 2
    assert (await resting.row(held.batch_run_id))["status"] == "PLANNING"


async def test_two_workers_never_work_one_district(resting: Batches) -> None:
    """Whatever comes in whatever order, to two workers with plans applied and runs undone between, every run ends and
    the log has one run at a time (D21, D28)."""
    other = BatchWorker(resting.db, resting.host, chunk_size=1, poll_seconds=0.02, workers=3)
    async with working(resting.worker), working(other):
        runs = [await resting.run(*cells(CELL, "EMERGENCY", to=to), wait=0) for to in (NAMED[0].set, OFF) * 4]
        plans = [await resting.run(*NAMED, wait=20, dry_run=True) for _ in range(3)]
        await asyncio.gather(*(resting.apply(plan) for plan in plans))
        await asyncio.gather(*(resting.revert(run) for run in runs[::3]))
        for run in (*runs, *plans):
            assert (await resting.ended(run))["status"] in ("DONE", "REVERTED")
    rows = await resting.district.conn.fetch("select batch_run_id from change_set order by revision")
    order = [row["batch_run_id"] for row in rows]
    assert len([n for n, run in enumerate(order) if n == 0 or order[n - 1] != run]) == len({*order})


# ── idempotency keys ────────────────────────────────────────────────────────────────────────────


async def test_the_same_key_answers_the_same_run(batches: Batches) -> None:
    """However often and however it is spelt, one input with one key is one run; the wait is no part of it."""
    run = await batches.run(*cells(CELL, "EMERGENCY", "GENERAL"), key="k", wait=0)
    again = await batches.run(*reversed(cells(CELL, "EMERGENCY", "GENERAL")), key="k", wait=20)
    assert again == run
    assert (await batches.row(run))["status"] == "DONE"
    assert await batches.run(*NAMED, key="another") != run


async def test_calls_at_once_make_one_run(batches: Batches) -> None:
    """Twelve calls with one key that arrive at once make one run, and all answer it."""
    runs = await asyncio.gather(*(batches.run(*NAMED, key="k", wait=0) for _ in range(12)))
    assert len({*runs}) == 1
    assert await count(batches, "batch_run") == 1


async def test_calls_at_once_with_different_inputs(batches: Batches) -> None:
    """Of two inputs that arrive at once with one key, one is taken and the other refused."""
    codes = await asyncio.gather(
        *(
            code_of(batches.run(*cells(CELL, "EMERGENCY", to=to), key="k", wait=0))
            for to in (NAMED[0].set, OFF) * 5
        )
    )
    assert sorted(codes, key=str) == ["IDEMPOTENCY_KEY_REUSED"] * 5 + [None] * 5
    assert await count(batches, "batch_run") == 1


@pytest.mark.parametrize(
    "other",
    [
        {"named": cells(CELL, "EMERGENCY", to=OFF)},
        {"named": cells(EMAIL, "EMERGENCY")},
        {"mode": "STUDENT_CONTACTS"},
        {"keep_chosen": True},
        {"dry_run": True},
        {"scope": ScopeInput(grades=("09",))},
        {"scope": ScopeInput(school_ids=())},
    ],
)
async def test_another_input_with_the_key_is_refused(batches: Batches, other: dict[str, Any]) -> None:
    """A key belongs to one input; a dry run is another input than the run itself."""
    await batches.run(*NAMED, key="k")
    named = other.pop("named", NAMED)
    assert await code_of(batches.run(*named, key="k", **other)) == "IDEMPOTENCY_KEY_REUSED"
    assert await count(batches, "batch_run") == 1


async def test_a_key_is_forgotten_after_a_day(batches: Batches) -> None:
    """After 24 hours the key is free, and is swept away."""
    run = await batches.run(*NAMED, key="k")
    await batches.district.conn.execute("update idempotency_key set created_at = now() - interval '25 hours'")
    later = await batches.run(*cells(CELL, "EMERGENCY", to=OFF), key="k")
    assert later != run
    assert await batches.run(*cells(CELL, "EMERGENCY", to=OFF), key="k") == later
    await batches.district.conn.execute("update idempotency_key set created_at = now() - interval '25 hours'")
    await batches.worker._clean_up()
    assert await count(batches, "idempotency_key") == 0


async def test_a_refused_call_leaves_no_key(batches: Batches) -> None:
    """A call that failed validation stores nothing: put right, the key is taken with the other input."""
    assert await code_of(batches.run(*cells(CELL, "NOPE"), key="k", wait=0)) == "UNKNOWN_REASON"
    assert await code_of(batches.run(*NAMED, key="k", wait=61)) == "WAIT_SECONDS_OUT_OF_RANGE"
    assert await count(batches, "idempotency_key") == 0
    await batches.run(*NAMED, key="k")


async def test_a_key_answers_though_the_request_would_fail_by_now(batches: Batches) -> None:
    """A repeated call gets the run that it made, even where the same request would be refused today."""
    run = await batches.run(*NAMED, key="k")
    await batches.district.conn.execute("delete from contact_point")
    assert await code_of(batches.run(*NAMED, wait=0)) == "CELL_NOT_ENABLED"
    assert await batches.run(*NAMED, key="k") == run


async def test_keys_are_the_districts_own(batches: Batches, db: Pool, host: PluginHost) -> None:
    """The same key in another district is another key."""
    run = await batches.run(*NAMED, key="k")
    async with db.acquire() as conn:
        birch = await DistrictBuilder.create(conn, host, "birch")
        await birch.student(await birch.school(), cell_phone="1")
        assert await Batches(db, host, birch, batches.worker).run(*cells(CELL, "GENERAL"), key="k") != run


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "\ud800", "new\nline"])
async def test_a_key_is_a_short_text(batches: Batches, key: str) -> None:
    """A key that is no printable text of reasonable length is refused, and nothing is stored."""
    assert await code_of(batches.run(*NAMED, key=key, wait=0)) == "INVALID_IDEMPOTENCY_KEY"
    assert await count(batches, "batch_run") == 0


# ── bad input ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("action", ACTIONS)
async def test_ids_do_not_tell_what_exists(batches: Batches, db: Pool, host: PluginHost, action: str) -> None:
    """Malformed, unknown, of another kind, of another district: the same words."""
    async with db.acquire() as conn:
        birch = await DistrictBuilder.create(conn, host, "birch")
        await birch.student(await birch.school(), cell_phone="1")
        theirs = await Batches(db, host, birch, batches.worker).run(*NAMED)
    words = set()
    for text in ("", "run_", "run_0", "person_1", "run_99999999999999999999", run_id(theirs)):
        with pytest.raises(Rejected) as refusal:
            await getattr(batches.service, action)(admin(batches.district), text)
        words |= {(e.code, e.message, e.path) for e in refusal.value.errors}
    assert {code for code, _, _ in words} == {"UNKNOWN_RUN"}
    assert len(words) == 1
    assert await batches.district.conn.fetchval("select array_agg(status::text) from batch_run") == ["DONE"]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_only_administrators_may(batches: Batches, role: Role, action: str) -> None:
    """Runs are an administrator's (D11)."""
    run = await batches.run(*NAMED)
    with pytest.raises(Forbidden):
        await getattr(batches.service, action)(Viewer(batches.district.district, role), run_id(run))


REFUSED = {
    "apply": {"QUEUED", "PLANNING", "APPLYING", "DONE", "CANCELLED", "FAILED", "REVERTING", "REVERTED"},
    "cancel": {"DONE", "CANCELLED", "FAILED", "REVERTING", "REVERTED"},
    "revert": {"QUEUED", "PLANNING", "PLANNED", "APPLYING", "CANCELLED", "FAILED", "REVERTING", "REVERTED"},
}


@pytest.mark.parametrize(
    ("action", "status"), [(a, s) for a, states in REFUSED.items() for s in sorted(states)]
)
async def test_a_run_in_another_state_is_refused(resting: Batches, action: str, status: str) -> None:
    """What a run's state does not allow is refused with that state's name, and changes nothing (D29)."""
    run = await resting.run(*NAMED, wait=0)
    await resting.district.conn.execute(f"update batch_run set status = '{status}'")
    before = await resting.row(run)
    with pytest.raises(Rejected, match=f"The run is {status}. ") as refusal:
        await getattr(resting.service, action)(admin(resting.district), run_id(run))
    assert [(e.code, e.path) for e in refusal.value.errors] == [("WRONG_STATE", ("id",))]
    assert await resting.row(run) == before
    assert await count(resting, "batch_run") == 1


async def test_the_refusal_of_a_revert_tells_what_can_be_reverted(resting: Batches) -> None:
    """A run that failed or was cancelled after it had changed preferences can be reverted too, and the message says so
    (D29)."""
    run = await resting.run(*NAMED, wait=0)
    with pytest.raises(Rejected) as refusal:
        await resting.service.revert(admin(resting.district), run_id(run))
    assert str(refusal.value) == (
        "The run is QUEUED. A run can be reverted when it is DONE, and if it has set preferences, when it FAILED or was"
        " CANCELLED."
    )


async def test_a_revert_is_not_undone(batches: Batches) -> None:
    """A revert is the end of it: it cannot be reverted, nor the run a second time (D29)."""
    run = await batches.run(*NAMED)
    revert = await batches.revert(run)
    state = await actual(batches.district)
    assert await code_of(batches.revert(revert)) == "WRONG_STATE"
    assert await code_of(batches.revert(run)) == "WRONG_STATE"
    assert await code_of(batches.cancel(revert)) == "WRONG_STATE"
    assert await actual(batches.district) == state


async def test_one_of_many_reverts_is_taken(batches: Batches) -> None:
    """Asked at once to undo or apply one run, many times over, the server does it once (D29)."""
    plan = await batches.run(*NAMED, dry_run=True)
    codes = await asyncio.gather(*(code_of(batches.apply(plan, wait=20)) for _ in range(5)))
    assert sorted(codes, key=str) == [*[None], *["WRONG_STATE"] * 4] or codes.count(None) == 1
    codes = await asyncio.gather(*(code_of(batches.revert(plan, wait=20)) for _ in range(5)))
    assert codes.count(None) == 1
    assert await count(batches, "batch_run") == 2


@pytest.mark.parametrize("seconds", [-1, 61])
async def test_the_wait_has_limits(batches: Batches, seconds: int) -> None:
    """The time to wait is 0 to 60 seconds."""
    run = await batches.run(*NAMED)
    assert await code_of(batches.revert(run, wait=seconds)) == "WAIT_SECONDS_OUT_OF_RANGE"
    assert await code_of(batches.apply(run, wait=seconds)) == "WAIT_SECONDS_OUT_OF_RANGE"


# ── through the API ─────────────────────────────────────────────────────────────────────────────

SUBMIT = """mutation ($input: BatchSetPreferencesInput!) {
  batchSetPreferences(input: $input) { run { id status dryRun forecast { set updated } } userErrors { code path } }
}"""
CHANGE = """mutation ($id: ID!) {{
  {0}Batch(id: $id) {{ run {{ id status reverts {{ id }} }} userErrors {{ code path }} }}
}}"""


async def test_the_life_of_a_run_through_http(
    db: Pool, host: PluginHost, district: DistrictBuilder, resting: Batches
) -> None:
    """Planned, applied, undone, and refused, all as a front end sees it (D20, D29)."""
    async with serving(db, host, district.district.code) as server:
        cell = {"contactPoint": "CELL_PHONE", "reason": "EMERGENCY", "set": "ON"}
        input_ = {"mode": "STUDENTS", "cells": [cell], "dryRun": True, "idempotencyKey": "k"}
        answers = [(await server.run(SUBMIT, {"input": input_}))["batchSetPreferences"] for _ in range(2)]
        assert answers[0] == answers[1]
        run = answers[0]["run"]
        assert (run["status"], run["dryRun"]) == ("PLANNED", True)
        assert [cell["updated"] for cell in run["forecast"] if cell["set"] == "ON"] == [2]
        applied = (await server.run(CHANGE.format("apply"), {"id": run["id"]}))["applyBatch"]
        assert applied == {"run": {"id": run["id"], "status": "DONE", "reverts": None}, "userErrors": []}
        undone = (await server.run(CHANGE.format("revert"), {"id": run["id"]}))["revertBatch"]["run"]
        assert (undone["status"], undone["reverts"]) == ("DONE", {"id": run["id"]})
        refused = (await server.run(CHANGE.format("cancel"), {"id": run["id"]}))["cancelBatch"]
        assert refused == {"run": None, "userErrors": [{"code": "WRONG_STATE", "path": ["id"]}]}
    assert all(masks == (0, 0) for masks in (await actual(district)).values())


async def test_the_same_request_twice(resting: Batches) -> None:
    """Without a key two calls are two runs (D21)."""
    request = BatchRequest("STUDENTS", ScopeInput(), NAMED)
    runs = [await resting.service.submit(admin(resting.district), request, 0) for _ in range(2)]
    assert len({*runs}) == 2
