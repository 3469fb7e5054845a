"""Plans and their application, said once more and naively: what a plan foresees, and what of it still fits later.

Written from the rules of the domain (D12-D20) and not from the product; see model.py.
"""

from dataclasses import dataclass, field, replace

from gql_server.domain.batch import Setting
from tests.support import model
from tests.support.model import Counts, Deniers, Excluded, Outcome, Request, Subject
from tests.support.worlds import Cell, World


@dataclass
class Applied:
    """What the application of a plan leaves. `failed`: a cell was switched off since; then nothing else counts."""

    failed: bool = False
    cells: dict[Cell, Counts] = field(default_factory=dict)
    left_alone: int = 0
    excluded_since: int = 0
    gone: int = 0
    exclusions: dict[Excluded, frozenset[str]] = field(default_factory=dict)
    world: World | None = None


def apply(plan: Outcome, before: World, now: World, request: Request, deniers: Deniers) -> Applied:
    """Apply a plan that was made of a request in the world `before`, in the world `now`."""
    named = {cell[:2]: cell[2] for cell in request.cells if cell[2] is not Setting.NO_CHANGE}
    if any(cell in now.disabled for cell in named):
        return Applied(failed=True)  # D15
    selected = model.population(before, request.mode, request.scope)
    still = model.population(now, request.mode, request.scope)
    applied = Applied(exclusions=dict(plan.exclusions), world=now)
    planned, there = set(), set()
    for cell, setting in named.items():
        subjects = [
            subject
            for subject in model.subjects(before, selected, cell[0])
            if (subject, *cell) not in plan.exclusions
        ]
        present = set(model.subjects(now, still, cell[0]))
        planned |= set(subjects)
        there |= present
        todo = [subject for subject in subjects if subject in present]
        counts = Counts(excluded=plan.cells[cell].excluded)
        _work(applied, counts, before, request, cell, setting, todo, deniers)
        applied.cells[cell] = counts
    applied.gone = len(planned - there)
    return applied


def _work(
    applied: Applied, counts: Counts, before: World, request: Request, cell: Cell, setting: Setting,
    todo: list[Subject], deniers: Deniers,
) -> None:  # fmt: skip
    """Set one cell for those of the plan who are still selected, and count."""
    kind, reason = cell
    changed = []
    assert applied.world is not None
    for subject in todo:
        if rules := deniers(applied.world, request, subject, cell, setting):
            counts.excluded += 1
            applied.excluded_since += 1
            applied.exclusions[subject, kind, reason] = frozenset(rules)
            continue
        state, planned = (model.state_of(world, subject, kind) for world in (applied.world, before))
        told = reason in planned.chosen and (reason in planned.on) is not (setting is Setting.ON)
        if (reason in state.on) is (setting is Setting.ON):
            counts.unchanged += 1
        elif reason in state.chosen and not told:
            applied.left_alone += (
                1  # chosen since, and not a choice of which the plan told that it is overwritten
            )
        elif reason in state.chosen and request.keep_chosen:
            counts.kept_chosen += 1
        else:
            counts.updated += 1
            counts.overwrote_chosen += reason in state.chosen
            on = state.on | {reason} if setting is Setting.ON else state.on - {reason}
            state = replace(state, on=on, chosen=state.chosen - {reason})
            applied.world = model.with_state(applied.world, subject, kind, state)
            changed.append(subject)
    counts.people_affected = model.people_affected(applied.world, kind, changed)
