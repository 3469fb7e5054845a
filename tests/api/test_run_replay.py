"""Random lives of many runs, with other writes between: a naive model and the log agree with it all.

`GQL_SERVER_TEST_EXAMPLES=500 pytest tests/api/test_run_replay.py` looks further, at other lives each time.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gql_server.db.pool import Pool
from gql_server.domain.batch import Cell
from gql_server.domain.changes import Source
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.log import fold
from tests.support.batch import CELL, EMAIL, HOUSEHOLD, OFF, ON, Batches, actual, replayed, revisions, working
from tests.support.builder import DistrictBuilder

_EXAMPLES = os.environ.get("GQL_SERVER_TEST_EXAMPLES")
KINDS, REASONS = (CELL, EMAIL, HOUSEHOLD), ("EMERGENCY", "GENERAL")
PEOPLE = 4

Where = tuple[int, Any, str]
"""Whose (a place from 0; a student has one household), contact point, reason."""


@dataclass
class Preference:
    on: bool = False
    chosen: bool = False
    changed: int = 0
    """The step that changed it last."""


@dataclass
class Done:
    """What a run did: the preferences before it and after, and when."""

    step: int
    before: dict[Where, tuple[bool, bool]]


@dataclass
class Planned:
    """What a plan saw: the cells in which a choice was known to it, and what it is to do."""

    cells: tuple[Cell, ...]
    keep_chosen: bool
    chosen: set[Where]


@dataclass
class Life:
    """The naive model of one district."""

    preferences: dict[Where, Preference] = field(
        default_factory=lambda: {
            (n, k, r): Preference() for n in range(PEOPLE) for k in KINDS for r in REASONS
        }
    )
    step: int = 0
    done: dict[int, Done] = field(default_factory=dict)
    plans: dict[int, Planned] = field(default_factory=dict)

    def write(self, where: Where, on: bool, choose: bool) -> None:
        """One setting of a portal user, which is then their choice, or of an administrator."""
        held = self.preferences[where]
        if held.on is not on:
            held.on, held.chosen, held.changed = on, choose, self.step
        elif choose and not held.chosen:
            held.chosen, held.changed = True, self.step

    def run(self, number: int, cells: tuple[Cell, ...], keep_chosen: bool, known: set[Where] | None) -> None:
        """A run over everybody; `known`: the choices that its plan saw, None where it was not planned first."""
        before = {}
        for cell in cells:
            for who in range(PEOPLE):
                where = (who, cell.contact_point, cell.reason)
                held = self.preferences[where]
                since = held.chosen and known is not None and where not in known
                if held.on is not (cell.set is ON) and not since and not (keep_chosen and held.chosen):
                    before[where] = held.on, held.chosen
                    held.on, held.chosen, held.changed = not held.on, False, self.step
        self.done[number] = Done(self.step, before)

    def revert(self, number: int) -> int:
        """Undo a run and return how many cells were restored."""
        done = self.done.pop(number)
        restored = 0
        for where, (on, chosen) in done.before.items():
            held = self.preferences[where]
            if held.changed == done.step:
                held.on, held.chosen, held.changed = on, chosen, self.step
                restored += 1
        return restored


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
        st.tuples(st.just("plan"), CELLS, st.booleans()),
        st.tuples(st.just("apply"), st.integers(0, 9)),
        st.tuples(st.just("apply"), st.integers(0, 9)),
        st.tuples(st.just("revert"), st.integers(0, 9)),
        st.tuples(st.just("revert"), st.integers(0, 9)),
    ),
    min_size=4, max_size=14,
)  # fmt: skip


@pytest.fixture
async def batches(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[Batches]:
    async with working(BatchWorker(db, host, chunk_size=2, poll_seconds=0.05)) as worker:
        yield Batches(db, host, district, worker)


async def take(batches: Batches, life: Life, ids: list[tuple[int, int]], step: tuple[Any, ...]) -> None:
    """Take one step, in the district and in the model, and compare what it counts."""
    life.step += 1
    match step:
        case ("write", who, kind, reason, on, choose):
            life.write((who, kind, reason), on, choose)
            source = Source.PORTAL if choose else Source.ADMIN
            subject = ids[who][kind is HOUSEHOLD]
            turned = {"on" if on else "off": (reason,)}
            await batches.choose(subject, kind, source=source, **turned)
        case ("run", cells, keep_chosen):
            number = await batches.run(*cells, keep_chosen=keep_chosen)
            life.run(number, cells, keep_chosen, None)
        case ("plan", cells, keep_chosen):
            number = await batches.run(*cells, keep_chosen=keep_chosen, dry_run=True)
            chosen = {where for where, held in life.preferences.items() if held.chosen}
            life.plans[number] = Planned(cells, keep_chosen, chosen)
        case ("apply", which) if life.plans:
            number = sorted(life.plans)[which % len(life.plans)]
            plan = life.plans.pop(number)
            life.run(await batches.apply(number), plan.cells, plan.keep_chosen, plan.chosen)
        case ("revert", which) if life.done:
            number = sorted(life.done)[which % len(life.done)]
            undone = len(life.done[number].before)
            restored = life.revert(number)
            counted = await batches.district.conn.fetchrow(
                "select coalesce(sum(updated), 0) as restored, coalesce(sum(left_alone), 0) as left_alone"
                " from batch_cell where batch_run_id = $1", await batches.revert(number),
            )  # fmt: skip
            assert counted is not None
            assert tuple(counted.values()) == (restored, undone - restored)


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


@pytest.mark.slow
@settings(
    max_examples=int(_EXAMPLES or 60),
    derandomize=_EXAMPLES is None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)
@given(steps=STEPS)
async def test_any_life_of_runs_is_as_the_model_says(
    db: Pool, host: PluginHost, batches: Batches, steps: list[tuple[Any, ...]]
) -> None:
    """After any sequence of runs, plans, reverts and writes the preferences, the choices and the counts of the reverts
    are the model's (D18, D29), the log replays to them, folded or not, and its revisions have no gap (D28)."""
    await batches.district.conn.execute(
        "update district set code = code || '-' || district_id where code = 'maple'"
    )
    district = await DistrictBuilder.create(batches.district.conn, host)
    batches = Batches(db, host, district, batches.worker)
    school = await district.school()
    ids = []
    for n in range(PEOPLE):
        student = await district.student(school, cell_phone=f"1{n}", email=f"{n}@x")
        ids.append((student, await district.household(student, phone=f"2{n}")))
    life = Life()
    for step in steps:
        await take(batches, life, ids, step)
        assert await actual(district) == modelled(life, ids, district)
    assert await replayed(district) == await actual(district)
    taken = await revisions(district)
    assert list(taken) == list(range(1, len(taken) + 1))
    for mark in (len(taken) // 2, len(taken)):
        await fold(db, district.id, mark)
        assert await replayed(district, folded=True) == await actual(district)
