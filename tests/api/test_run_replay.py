"""Random lives of many runs, with other writes between: a naive model and the log agree with it all.

`GQL_SERVER_TEST_EXAMPLES=500 pytest tests/api/test_run_replay.py` looks further, at other lives each time.
"""

import os
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gql_server.db.pool import Pool
from gql_server.db.statements import execute
from gql_server.domain.batch import Cell
from gql_server.domain.changes import Source
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.states import restore_status
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.log import fold
from tests.support.batch import CELL, EMAIL, HOUSEHOLD, OFF, ON, Batches, actual, replayed, revisions
from tests.support.builder import DistrictBuilder
from tests.support.stepping import begin, work

_EXAMPLES = os.environ.get("GQL_SERVER_TEST_EXAMPLES")
KINDS, REASONS = (CELL, EMAIL, HOUSEHOLD), ("EMERGENCY", "GENERAL")
PEOPLE = 4

Where = tuple[int, Any, str]
"""Whose (a place from 0; a student has one household), contact point, reason."""
Part = set[tuple[int, Any]]
"""The people's and households' contact points that a run had come to when it was stopped."""


@dataclass(frozen=True)
class Change:
    """What happened to a preference: to undo which run (itself, or the one that it reverted), and what was before."""

    run: int | None
    """The run that set it, or that was reverted; None for a single write."""
    revert: bool
    before: tuple[bool, bool]


@dataclass
class Preference:
    on: bool = False
    chosen: bool = False
    changes: list[Change] = field(default_factory=list)

    def become(self, on: bool, chosen: bool, run: int | None = None, revert: bool = False) -> bool:
        """Change it, unless that is what it is; return whether it was turned on or off."""
        before = self.on, self.chosen
        if before != (on, chosen):
            self.changes.append(Change(run, revert, before))
            self.on, self.chosen = on, chosen
        return before[0] is not on

    def set_by(self, run: int) -> bool:
        return any(change.run == run and not change.revert for change in self.changes)

    def undoing(self, run: int, reverted: set[int]) -> tuple[bool, bool] | None:
        """Return what it was before a run and before all runs that are reverted by now; None if it stays (D29).

        It stays if somebody else changed it after the run.
        """
        unbroken: list[Change] = []
        for change in reversed(self.changes):
            if change.run not in {run, *reverted}:
                break
            unbroken.insert(0, change)
        return unbroken[0].before if any(c.run == run and not c.revert for c in unbroken) else None

    @property
    def of_others(self) -> tuple[bool, bool]:
        """What it would be if there had been no run: what the last single write left."""
        after = [*(change.before for change in self.changes), (self.on, self.chosen)][1:]
        own = [left for change, left in zip(self.changes, after, strict=True) if change.run is None]
        return own[-1] if own else (False, False)


@dataclass
class Planned:
    """What a plan saw: the choices that were known to it, each on or off, and what it is to do."""

    cells: tuple[Cell, ...]
    keep_chosen: bool
    chosen: dict[Where, bool]


@dataclass
class Life:
    """The naive model of one district."""

    preferences: dict[Where, Preference] = field(
        default_factory=lambda: {
            (n, k, r): Preference() for n in range(PEOPLE) for k in KINDS for r in REASONS
        }
    )
    done: set[int] = field(default_factory=set)
    reverted: set[int] = field(default_factory=set)
    plans: dict[int, Planned] = field(default_factory=dict)

    def write(self, where: Where, on: bool, choose: bool) -> None:
        """One setting of a portal user, which is then their choice, or of an administrator."""
        held = self.preferences[where]
        held.become(on, choose or (held.chosen and held.on is on))

    def run(
        self,
        number: int,
        cells: tuple[Cell, ...],
        keep_chosen: bool,
        known: dict[Where, bool] | None = None,
        part: Part | None = None,
    ) -> None:
        """A run over everybody; `known`: the choices that its plan saw, None where it was not planned first."""
        for cell in cells:
            for who in range(PEOPLE):
                where = (who, cell.contact_point, cell.reason)
                held = self.preferences[where]
                sets_on = cell.set is ON
                # A choice that the plan knew is overwritten only where the plan told so: where it was not as asked.
                since = held.chosen and known is not None and known.get(where, sets_on) is sets_on
                done = part is None or where[:2] in part
                if held.on is not sets_on and not since and not (keep_chosen and held.chosen) and done:
                    held.become(not held.on, False, number)
        self.done.add(number)

    def revert(self, number: int, part: Part | None = None) -> tuple[int, int, int]:
        """Undo a run, or a part of it; return how many preferences were restored, how many were as before, and how many
        were left alone."""
        restored = unchanged = left_alone = 0
        for where, held in self.preferences.items():
            if held.set_by(number):
                before = held.undoing(number, self.reverted)
                left_alone += before is None
                if before == (held.on, held.chosen):
                    unchanged += 1
                elif before is not None and (part is None or where[:2] in part):
                    flipped = held.become(*before, number, revert=True)
                    restored, unchanged = restored + flipped, unchanged + (not flipped)
        if part is None:
            self.done.discard(number)
            self.reverted.add(number)
        return restored, unchanged, left_alone


CELLS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(REASONS), st.sampled_from((ON, OFF))),
    min_size=1, max_size=4, unique_by=lambda cell: cell[:2],
).map(lambda named: tuple(Cell(*cell) for cell in named))  # fmt: skip
WRITES = st.tuples(
    st.just("write"), st.integers(0, PEOPLE - 1), st.sampled_from(KINDS), st.sampled_from(REASONS), st.booleans(),
    st.booleans(),
)  # fmt: skip
STEPS = st.lists(
    st.one_of(
        WRITES,
        WRITES,
        st.tuples(st.just("run"), CELLS, st.booleans()),
        st.tuples(st.just("run"), CELLS, st.booleans()),
        st.tuples(st.just("plan"), CELLS, st.booleans()),
        st.tuples(st.just("apply"), st.integers(0, 9)),
        st.tuples(st.just("apply"), st.integers(0, 9)),
        st.tuples(st.just("revert"), st.integers(0, 9)),
        st.tuples(st.just("revert"), st.integers(0, 9)),
        st.tuples(st.just("stopped revert"), st.integers(0, 9), st.integers(0, 4)),
        st.tuples(st.just("cancel"), CELLS, st.booleans(), st.integers(0, 4), WRITES),
    ),
    min_size=4, max_size=14,
)  # fmt: skip


class Stepper:
    """Takes steps in a district and in the model, and compares what the district counts with the model's counts."""

    def __init__(self, batches: Batches, ids: list[tuple[int, int]]) -> None:
        self.batches, self.ids, self.life = batches, ids, Life()

    async def work(self) -> None:
        await work(self.batches.db, self.batches.host)

    async def take(self, step: tuple[Any, ...]) -> None:
        batches, life = self.batches, self.life
        match step:
            case ("write", who, kind, reason, on, choose):
                await self._write(who, kind, reason, on, choose)
            case ("run", cells, keep_chosen):
                number = await batches.run(*cells, keep_chosen=keep_chosen, wait=0)
                await self.work()
                life.run(number, cells, keep_chosen)
            case ("plan", cells, keep_chosen):
                number = await batches.run(*cells, keep_chosen=keep_chosen, dry_run=True, wait=0)
                await self.work()
                chosen = {where: held.on for where, held in life.preferences.items() if held.chosen}
                life.plans[number] = Planned(cells, keep_chosen, chosen)
            case ("apply", which) if life.plans:
                number = sorted(life.plans)[which % len(life.plans)]
                plan = life.plans.pop(number)
                await batches.apply(number, wait=0)
                await self.work()
                life.run(number, plan.cells, plan.keep_chosen, plan.chosen)
            case ("revert", which) if life.done:
                await self._revert(sorted(life.done)[which % len(life.done)])
            case ("stopped revert", which, chunks) if life.done:
                await self._stop_revert(sorted(life.done)[which % len(life.done)], chunks)
            case ("cancel", cells, keep_chosen, chunks, write):
                await self._cancel(cells, keep_chosen, chunks, write)

    async def _write(self, who: int, kind: Any, reason: str, on: bool, choose: bool) -> None:
        self.life.write((who, kind, reason), on, choose)
        source = Source.PORTAL if choose else Source.ADMIN
        turned = {"on" if on else "off": (reason,)}
        await self.batches.choose(self.ids[who][kind is HOUSEHOLD], kind, source=source, **turned)

    async def _revert(self, number: int) -> None:
        revert = await self.batches.revert(number, wait=0)
        await self.work()
        assert await self._counts(revert) == self.life.revert(number)

    async def _stop_revert(self, number: int, chunks: int) -> None:
        """Let a revert fail after some of its chunks: the run is what it was before, and can be reverted anew."""
        revert = await self.batches.revert(number, wait=0)
        run = await begin(self.batches.db, self.batches.host, chunks)
        async with self.batches.db.transaction() as conn:
            await execute(conn, "batch/run/fail", **run.lease_key, errors=["It was stopped."])
            await execute(conn, "batch/housekeeping/remove_plan", **run.key)
            await restore_status(conn, run.key, run.district.code)
        counted = self.life.revert(number, await self._part(revert))
        assert await self._counts(revert) == counted

    async def _cancel(
        self, cells: tuple[Cell, ...], keep_chosen: bool, chunks: int, write: tuple[Any, ...]
    ) -> None:
        """Cancel a run after some of its chunks; somebody writes before it is undone."""
        number = await self.batches.run(*cells, keep_chosen=keep_chosen, wait=0)
        await begin(self.batches.db, self.batches.host, chunks)
        self.life.run(number, cells, keep_chosen, part=await self._part(number))
        await self.batches.cancel(number)
        await self.take(write)
        await self.work()
        self.life.revert(number)

    async def _counts(self, revert: int) -> tuple[int, ...]:
        """Return how many preferences a revert restored, how many were as before, and how many it left alone."""
        row = await self.batches.district.conn.fetchrow(
            "select coalesce(sum(updated), 0), coalesce(sum(unchanged), 0), coalesce(sum(left_alone), 0)"
            " from batch_cell where batch_run_id = $1", revert,
        )  # fmt: skip
        assert row is not None
        return tuple(row.values())

    async def _part(self, number: int) -> Part:
        """Return whose contact points a run has changed, by the log."""
        rows = await self.batches.district.conn.fetch(
            "select c.subject, c.subject_id, c.contact_point from subject_change c"
            " join change_set s using (district_id, revision) where s.batch_run_id = $1", number,
        )  # fmt: skip
        place = {
            (subject, each[n]): who
            for who, each in enumerate(self.ids)
            for n, subject in enumerate(("PERSON", "HOUSEHOLD"))
        }
        kinds = {kind.value: kind for kind in KINDS}
        return {(place[subject, number], kinds[kind]) for subject, number, kind in map(tuple, rows)}


def modelled(
    life: Life, ids: list[tuple[int, int]], district: DistrictBuilder
) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Return the model's preferences in the form of `actual`."""
    masks: dict[tuple[Any, ...], tuple[int, int]] = {}
    for (who, kind, reason), held in life.preferences.items():
        person, household = ids[who]
        whose = (None, household) if kind is HOUSEHOLD else (person, None)
        key = (*whose, kind.value, "EMAIL" if kind is EMAIL else "VOICE")
        on, chosen = masks.get(key, (0, 0))
        bit = 1 << district.bits[reason]
        masks[key] = (on | bit * held.on, chosen | bit * held.chosen)
    return {key: value for key, value in masks.items() if any(value)}


async def stepper(db: Pool, host: PluginHost, district: DistrictBuilder) -> Stepper:
    """Return a stepper for a new district of a few students, each in a household."""
    await district.conn.execute("update district set code = code || '-' || district_id where code = 'maple'")
    fresh = await DistrictBuilder.create(district.conn, host)
    school = await fresh.school()
    ids = []
    for n in range(PEOPLE):
        student = await fresh.student(school, cell_phone=f"1{n}", email=f"{n}@x")
        ids.append((student, await fresh.household(student, phone=f"2{n}")))
    return Stepper(Batches(db, host, fresh, BatchWorker(db, host)), ids)


@pytest.mark.slow
@settings(
    max_examples=int(_EXAMPLES or 60),
    derandomize=_EXAMPLES is None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)
@given(steps=STEPS, order=st.randoms(use_true_random=False))
async def test_any_life_of_runs_is_as_the_model_says(
    db: Pool, host: PluginHost, district: DistrictBuilder, steps: list[tuple[Any, ...]], order: Any
) -> None:
    """After any sequence of runs, plans, cancels, reverts and writes the preferences, the choices and the counts of
    the reverts are the model's (D18, D29), the log replays to them, folded or not, and its revisions have no gap (D28).
    When at last all runs are reverted, in any order, each preference is what the last single write left (D29)."""
    stepping = await stepper(db, host, district)
    of, life = stepping.batches.district, stepping.life
    for step in steps:
        await stepping.take(step)
        assert await actual(of) == modelled(life, stepping.ids, of)
    left = sorted(life.done)
    order.shuffle(left)
    for number in left:
        await stepping._revert(number)
        assert await actual(of) == modelled(life, stepping.ids, of)
    assert {w: (p.on, p.chosen) for w, p in life.preferences.items()} == {
        w: p.of_others for w, p in life.preferences.items()
    }
    assert await replayed(of) == await actual(of)
    taken = await revisions(of)
    assert list(taken) == list(range(1, len(taken) + 1))
    for mark in (len(taken) // 2, len(taken)):
        await fold(db, of.id, mark)
        assert await replayed(of, folded=True) == await actual(of)
