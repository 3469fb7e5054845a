"""Random batches on random districts do what the naive model says, in every preference and every count.

`GQL_SERVER_TEST_EXAMPLES=2000 pytest tests/api/test_model.py` looks further, at other districts each time.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.domain.batch import Cell, Setting
from gql_server.domain.channels import Channel, ContactPointKind, Method
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import Rejected
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.request import BatchRequest, ScopeInput
from gql_server.services.batch.service import BatchService
from gql_server.services.batch.signals import RunSignals
from gql_server.services.batch.worker import BatchWorker
from tests.support.model import (
    FILTER_KINDS,
    Counts,
    Excluded,
    Outcome,
    Request,
    Scope,
    Subject,
    on_record,
    population,
    request_errors,
    run,
)
from tests.support.worlds import GRADES, REASONS, YEARS, Loaded, World, load, row_id, worlds

_EXAMPLES = os.environ.get("GQL_SERVER_TEST_EXAMPLES")
_codes = itertools.count()

A_CELL = ((ContactPointKind.EMAIL, "GENERAL", Setting.ON),)
"""Cells in which nothing is wrong, where only the mode and the scope matter."""

Masks = dict[tuple[Subject, Channel], tuple[int, int]]
"""The bits that are on, and those that are chosen; a channel without either is left out."""


# ── random requests ─────────────────────────────────────────────────────────────────────────────


@st.composite
def scopes(draw: st.DrawFn, world: World, mode: str) -> Scope:
    """Scopes that mostly fit the mode; one in ten may name a school or a filter that is unknown or wrong."""
    census = mode == "CENSUS_STAFF"
    odd = draw(st.integers(0, 9)) == 9
    places = st.integers(0, world.schools if odd else world.schools - 1)
    filters = st.integers(0, 2) if odd else st.just(1 if census else 0)
    schools = st.lists(places, min_size=1, max_size=3, unique=True).map(tuple) if world.schools else st.none()
    grades = st.lists(st.sampled_from(GRADES), min_size=1, max_size=2, unique=True).map(tuple)
    return Scope(
        schools=draw(st.none() | st.none() | schools),
        year=draw(st.none() | st.none() | st.sampled_from(YEARS)) if not census else None,
        grades=draw(st.none() | st.none() | grades) if odd or not census else None,
        filter=draw(filters if census and not odd else st.none() | st.none() | filters),
    )


@st.composite
def modes_and_scopes(draw: st.DrawFn, world: World) -> tuple[str, Scope]:
    """A mode and a scope that select somebody, or are wrong; if three tries do not, one without narrowing."""
    for _ in range(3):
        mode = draw(st.sampled_from([*FILTER_KINDS, *FILTER_KINDS, *FILTER_KINDS, "NOBODY"]))
        scope = draw(scopes(world, mode))
        if request_errors(world, Request(mode, scope, A_CELL)) or population(world, mode, scope):
            return mode, scope
    wide = [(mode, Scope(filter=1 if mode == "CENSUS_STAFF" else None)) for mode in FILTER_KINDS]
    return draw(st.sampled_from([choice for choice in wide if population(world, *choice)] or [(mode, scope)]))


@st.composite
def requests(draw: st.DrawFn, world: World) -> Request:
    """Requests that mostly name cells which are enabled; some name one that is not, or one cell twice."""
    mode, scope = draw(modes_and_scopes(world))
    keep_chosen = draw(st.sampled_from([True, False]))
    cells = st.tuples(st.sampled_from(ContactPointKind), st.sampled_from([*REASONS, *REASONS, "NO_REASON"]))
    if draw(st.integers(0, 9)) < 9 and not request_errors(world, Request(mode, scope, A_CELL)):
        people = population(world, mode, scope)
        kinds = [kind for kind in ContactPointKind if on_record(world, people, kind)]
        enabled = [
            (kind, reason) for kind in kinds for reason in REASONS if (kind, reason) not in world.disabled
        ]
        cells = st.sampled_from(enabled) if enabled else cells
    settings_ = st.sampled_from([Setting.ON, Setting.ON, Setting.OFF, Setting.NO_CHANGE])
    named = draw(
        st.lists(st.tuples(cells, settings_), min_size=1, max_size=12, unique_by=lambda cell: cell[0])
    )
    if draw(st.integers(0, 19)) == 19:
        named.append((named[0][0], draw(settings_)))
    return Request(mode, scope, tuple((*cell, setting) for cell, setting in named), keep_chosen)


@st.composite
def stories(draw: st.DrawFn) -> tuple[World, Request, Request]:
    """A district and two batches, the second of which meets what the first left."""
    world = draw(worlds())
    return world, draw(requests(world)), draw(requests(world))


def to_api(request: Request) -> BatchRequest:
    """Return a request as the API takes it, with global ids."""
    scope = request.scope
    schools = [encode_id(IdKind.SCHOOL, row_id(place)) for place in scope.schools or ()]
    filter_id = None if scope.filter is None else encode_id(IdKind.SAVED_FILTER, row_id(scope.filter))
    return BatchRequest(
        request.mode,
        ScopeInput(tuple(schools) or None, scope.year, scope.grades, filter_id),
        tuple(Cell(*cell) for cell in request.cells),
        request.keep_chosen,
    )


# ── what the database holds ─────────────────────────────────────────────────────────────────────


async def stored(conn: Connection, loaded: Loaded) -> Masks:
    """Return every preference of the district."""
    rows = await conn.fetch(
        "select false as household, person_id as id, contact_point, method, reasons_on, reasons_chosen"
        " from preference where district_id = $1 union all"
        " select true, household_id, contact_point, method, reasons_on, reasons_chosen"
        " from household_preference where district_id = $1",
        loaded.district.district_id,
    )
    return {
        (Subject(row["household"], row["id"] - 1), _channel(row)): (row["reasons_on"], row["reasons_chosen"])
        for row in rows
        if row["reasons_on"] or row["reasons_chosen"]
    }


def modelled(world: World, loaded: Loaded) -> Masks:
    """Return every preference of a world."""
    holders: dict[Subject, Any] = {Subject(False, n): person for n, person in enumerate(world.people)}
    holders |= {Subject(True, n): household for n, household in enumerate(world.households)}
    masks = loaded.bits.mask
    return {
        (subject, channel): (masks(state.on), masks(state.chosen))
        for subject, holder in holders.items()
        for channel, state in holder.preferences.items()
        if state.on or state.chosen
    }


async def replayed(conn: Connection, loaded: Loaded, start: Masks) -> Masks:
    """Return a start with the whole change log done to it, every bit of which must change something (D28)."""
    masks = dict(start)
    rows = await conn.fetch(
        "select * from subject_change where district_id = $1 order by revision", loaded.district.district_id
    )
    for row in rows:
        assert row["kind"] == "PREFERENCES"
        key = Subject(row["subject"] == "HOUSEHOLD", row["subject_id"] - 1), _channel(row)
        on, chosen = masks.get(key, (0, 0))
        assert on & row["turned_on"] == 0
        assert on & row["turned_off"] == row["turned_off"]
        assert chosen & row["unchosen"] == row["unchosen"]
        assert row["chosen"] == 0
        masks[key] = ((on | row["turned_on"]) & ~row["turned_off"], chosen & ~row["unchosen"])
    return {key: bits for key, bits in masks.items() if bits != (0, 0)}


async def revisions(conn: Connection, loaded: Loaded) -> int:
    """Return the district's revision, having seen that its change sets lead up to it without a gap (D28)."""
    district_id = loaded.district.district_id
    sets = await conn.fetch(
        "select revision, source, actor, batch_run_id from change_set where district_id = $1 order by 1",
        district_id,
    )
    assert [row["revision"] for row in sets] == list(range(1, len(sets) + 1))
    assert all((row["source"], row["actor"]) == ("BATCH", "ADMIN") and row["batch_run_id"] for row in sets)
    assert await conn.fetchval("select revision from district where district_id = $1", district_id) == len(
        sets
    )
    return len(sets)


def _channel(row: Any) -> Channel:
    return Channel(ContactPointKind(row["contact_point"]), Method(row["method"]))


# ── the comparison ──────────────────────────────────────────────────────────────────────────────


async def compare_run(conn: Connection, loaded: Loaded, run_id: int, expected: Outcome) -> None:
    """Hold a run's status, counts and exclusions against the model's (D16-D20)."""
    key = (loaded.district.district_id, run_id)
    where = "where district_id = $1 and batch_run_id = $2"
    row = await conn.fetchrow(f"select * from batch_run {where}", *key)
    assert row is not None
    assert (row["status"], row["errors"]) == ("DONE", [])
    assert row["population"] == expected.population
    assert row["done"] == row["total"] == len(expected.targets)
    cells = await conn.fetch(f"select * from batch_cell {where}", *key)
    counted = {
        (ContactPointKind(c["contact_point"]), c["reason"]): Counts(
            *(c[count.name] for count in fields(Counts))
        )
        for c in cells
    }
    assert counted == expected.cells
    await compare_exclusions(conn, loaded, run_id, expected)


async def compare_exclusions(conn: Connection, loaded: Loaded, run_id: int, expected: Outcome) -> None:
    """Each cell that somebody is kept out of stands once, with a rule that indeed keeps them out."""
    rows = await conn.fetch(
        "select e.*, r.plugin from batch_exclusion e join batch_rule r using (district_id, batch_run_id, rule_no)"
        " where e.district_id = $1 and e.batch_run_id = $2",
        loaded.district.district_id, run_id,
    )  # fmt: skip
    found: dict[Excluded, str] = {}
    for row in rows:
        for reason in loaded.bits.codes(row["reasons"]):
            subject = Subject(row["household"], row["subject_id"] - 1)
            key = (subject, ContactPointKind(row["contact_point"]), reason)
            assert key not in found
            found[key] = row["plugin"]
    assert found.keys() == expected.exclusions.keys()
    assert all(plugin in expected.exclusions[key] for key, plugin in found.items())


@pytest.fixture
async def batches(db: Pool, host: PluginHost) -> AsyncIterator[BatchService]:
    """The batch service, with a worker that takes small chunks."""
    worker = BatchWorker(db, host, chunk_size=3, poll_seconds=0.05)
    task = asyncio.create_task(worker.run())
    yield BatchService(db, host, worker, RunSignals(db), poll_seconds=0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def runs(db: Pool, loaded: Loaded) -> int:
    """Return how many runs the district has recorded."""
    async with db.acquire() as conn:
        query = "select count(*) from batch_run where district_id = $1"
        return int(await conn.fetchval(query, loaded.district.district_id))


def beside(expected: Outcome) -> set[str]:
    """Return the codes that may be told of or not, beside something that is wrong with the request as a whole.

    Whether a cell is enabled depends on whom the scope selects, and what filter will do depends on the mode.
    """
    if expected.errors & {"CELL_NOT_ENABLED", "NOBODY_SELECTED"}:
        return set()
    return {"CELL_NOT_ENABLED", *(["UNKNOWN_FILTER"] if "UNKNOWN_MODE" in expected.errors else [])}


async def work(db: Pool, batches: BatchService, loaded: Loaded, world: World, request: Request) -> World:
    """Run a batch, compare all that came of it with the model, and return the world after it."""
    expected = run(world, request)
    submitted = batches.submit(Viewer(loaded.district, Role.ADMIN), to_api(request), 60)
    recorded = await runs(db, loaded)
    if expected.errors:
        with pytest.raises(Rejected) as refusal:
            await submitted
        codes = {error.code for error in refusal.value.errors}
        assert codes
        assert expected.errors - beside(expected) <= codes <= expected.errors | beside(expected)
    else:
        run_id = await submitted
        async with db.acquire() as conn:
            await compare_run(conn, loaded, run_id, expected)
    async with db.acquire() as conn:
        assert await stored(conn, loaded) == modelled(expected.world, loaded)
    assert await runs(db, loaded) == recorded + (not expected.errors)
    event(f"errors: {sorted(expected.errors)}")
    for name in (count.name for count in fields(Counts)):
        event(f"{name}: {any(getattr(counts, name) for counts in expected.cells.values())}")
    return expected.world


@pytest.mark.slow
@settings(
    max_examples=int(_EXAMPLES or 150),
    derandomize=_EXAMPLES is None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if _EXAMPLES else [Phase.generate],  # shrinking takes minutes
    suppress_health_check=[*HealthCheck],
)
@given(story=stories())
async def test_a_batch_does_what_the_model_says(
    db: Pool, host: PluginHost, batches: BatchService, story: tuple[World, Request, Request]
) -> None:
    """Every preference, count and exclusion is as the rules say (D4-D20), and the log replays to it (D28)."""
    world, first, second = story
    async with db.transaction() as conn:
        loaded = await load(conn, host, world, f"story{next(_codes)}")
        start = await stored(conn, loaded)
    assert start == modelled(world, loaded)
    after = await work(db, batches, loaded, world, first)
    async with db.acquire() as conn:
        revision = await revisions(conn, loaded)
    assert await work(db, batches, loaded, after, first) == after
    async with db.acquire() as conn:
        assert await revisions(conn, loaded) == revision  # the same again changes nothing
    await work(db, batches, loaded, after, second)
    async with db.acquire() as conn:
        await revisions(conn, loaded)
        assert await replayed(conn, loaded, start) == await stored(conn, loaded)
