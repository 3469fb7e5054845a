"""A plan foresees what its application does; what was written between makes the difference that the naive model says.

`GQL_SERVER_TEST_EXAMPLES=2000 pytest tests/api/test_plan_model.py` looks further, at other districts each time.
"""

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st

from gql_server.db.pool import Pool
from gql_server.domain.batch import Setting
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.ids import IdKind, encode_id
from gql_server.hooks.host import PluginHost
from tests.api.test_model import modelled, requests, stored
from tests.support import model
from tests.support.model import Counts, Excluded, Outcome, Request, Subject
from tests.support.plan_model import Applied, apply
from tests.support.server import TestServer, serving
from tests.support.worlds import (
    EMAILS,
    PHONES,
    Cell,
    Loaded,
    World,
    later_worlds,
    load,
    reload,
    row_id,
    worlds,
)

_EXAMPLES = os.environ.get("GQL_SERVER_TEST_EXAMPLES")
_codes = itertools.count()

PLUGIN = f'''
"""Rules of each kind that speak of turning off, too: a SELECT, a condition with reasons, and a check."""

from gql_server.hooks import Context, Deny, Rule, Setting, Sql, Verdict, hookimpl

OFF, BOTH = frozenset({{Setting.OFF}}), frozenset({{Setting.ON, Setting.OFF}})
THIRDS = (
    "select household, subject_id, contact_point, method, -1::bigint as reasons from candidate where subject_id % 3 = 0"
)


async def check(candidates, reader):
    no = Deny(reasons=frozenset({{"GENERAL", "EMERGENCY"}}), because="Not there.")
    return [no if c.address in {(PHONES[0], EMAILS[0])!r} else Verdict.ALLOW for c in candidates]


@hookimpl
def eligibility_rules(request):
    if request.context is not Context.BATCH:
        return []
    shared = Sql("c.address = '{PHONES[1]}'")
    return [
        Rule("thirds", "Every third one stays.", deny_select=Sql(THIRDS), settings=OFF),
        Rule.where("shared", "That phone stays.", shared, settings=BOTH, reasons=["ATTENDANCE", "PRIORITY"]),
        Rule("check", "The check says no.", check=check, settings=BOTH),
    ]
'''


def deniers(world: World, request: Request, subject: Subject, cell: Cell, setting: Setting) -> set[str]:
    """Return the plug-ins that keep a subject out of a cell: the built-in ones, and that of this file."""
    kind, reason = cell
    address = model.address_of(world, subject, kind)
    whims = (
        (setting is Setting.OFF and row_id(subject.place) % 3 == 0)
        or (address == PHONES[1] and reason in ("ATTENDANCE", "PRIORITY"))
        or (address in (PHONES[0], EMAILS[0]) and reason in ("GENERAL", "EMERGENCY"))
    )
    return model.builtin_deniers(world, request, subject, cell, setting) | ({"whims"} if whims else set())


@st.composite
def stories(draw: st.DrawFn) -> tuple[World, Request, World]:
    """A district, a batch that is planned in it, and the district when the plan is applied; some times the same."""
    world = draw(worlds())
    tries = (draw(requests(world)) for _ in range(3))
    request = next((each for each in tries if not model.run(world, each, deniers).errors), None)
    assume(request is not None)
    assert request is not None
    return (
        world,
        request,
        draw(later_worlds(world)) if draw(st.sampled_from([True, True, True, False])) else world,
    )


COUNTS = "updated unchanged overwroteChosen keptChosen excluded peopleAffected"
FIELDS = f"""
  id status population errors progress {{ done total }}
  results {{ contactPoint reason set leftAlone {COUNTS} }} forecast {{ contactPoint reason set leftAlone {COUNTS} }}
  difference {{ leftPopulation choseSince excludedSince }} excludedByRule {{ rule excluded }}
  exclusions(first: 10000) {{ edges {{ node {{ person {{ id }} household {{ id }} contactPoint reason rule }} }} }}
"""
SUBMIT = f"""mutation ($input: BatchSetPreferencesInput!) {{
  batchSetPreferences(input: $input) {{ run {{ {FIELDS} }} userErrors {{ code }} }}
}}"""
APPLY = f"mutation ($id: ID!) {{ applyBatch(id: $id, waitSeconds: 30) {{ run {{ {FIELDS} }} userErrors {{ code }} }} }}"


@pytest.fixture
async def server(
    db: Pool, builtin_plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TestServer]:
    """A server with the plug-in of this file, and small chunks, in small ranges."""
    monkeypatch.setattr("gql_server.services.batch.targets.RANGE", 5)
    (tmp_path / "whims.py").write_text(PLUGIN, encoding="utf-8")
    host = PluginHost([builtin_plugins, tmp_path])
    async with serving(db, host, "maple", batch_chunk_size=3) as server:
        yield server


async def plan(server: TestServer, loaded: Loaded, request: Request) -> Any:
    """Send a request as a dry run and return the answer's payload."""
    scope = request.scope
    schools = [encode_id(IdKind.SCHOOL, row_id(place)) for place in scope.schools or ()]
    filter_id = None if scope.filter is None else encode_id(IdKind.SAVED_FILTER, row_id(scope.filter))
    cells = [{"contactPoint": kind, "reason": reason, "set": to} for kind, reason, to in request.cells]
    sent = {
        "mode": request.mode, "cells": cells, "keepChosen": request.keep_chosen, "dryRun": True, "waitSeconds": 30,
        "scope": {
            "schoolIds": schools or None, "schoolYear": scope.year, "filterId": filter_id,
            "grades": None if scope.grades is None else list(scope.grades),
        },
    }  # fmt: skip
    token = server.token(district=loaded.district.code)
    return (await server.run(SUBMIT, {"input": sent}, token=token))["batchSetPreferences"]


def counts(cells: list[Any]) -> dict[Cell, Counts]:
    """Return the counts of the cells that a run names."""
    return {
        (ContactPointKind(cell["contactPoint"]), cell["reason"]): Counts(
            *(cell[name] for name in COUNTS.split())
        )
        for cell in cells
        if cell["set"] != "NO_CHANGE"
    }


def compare_exclusions(run: Any, expected: dict[Excluded, frozenset[str]]) -> None:
    """Who is kept out stands once, with a rule that indeed keeps them out; and is counted by rule."""
    found: dict[Excluded, str] = {}
    for edge in run["exclusions"]["edges"]:
        node = edge["node"]
        holder = node["household"] or node["person"]
        subject = Subject(node["household"] is not None, int(holder["id"].split("_")[1]) - 1)
        key = (subject, ContactPointKind(node["contactPoint"]), node["reason"])
        assert key not in found
        found[key] = node["rule"]
    assert found.keys() == expected.keys()
    assert all(rule.split(".")[0] in expected[key] for key, rule in found.items())
    assert {row["rule"]: row["excluded"] for row in run["excludedByRule"]} == {
        rule: sum(each == rule for each in found.values()) for rule in found.values()
    }


def compare_plan(run: Any, expected: Outcome) -> None:
    """A plan foresees what the model says, and has done nothing (D20)."""
    assert (run["status"], run["errors"], run["difference"]) == ("PLANNED", [], None)
    assert run["population"] == expected.population
    assert run["progress"] == {"done": 0, "total": len(expected.targets)}
    assert counts(run["forecast"]) == expected.cells
    assert counts(run["results"]) == dict.fromkeys(expected.cells, Counts())
    compare_exclusions(run, expected.exclusions)


def compare_applied(run: Any, plan: Any, expected: Applied) -> None:
    """An applied plan did what the model says; what it foresaw stays as it was shown."""
    assert run["forecast"] == plan["forecast"]
    assert run["population"] == plan["population"]
    if expected.failed:
        assert run["status"] == "FAILED"
        assert run["errors"]
        assert counts(run["results"]) == dict.fromkeys(counts(run["forecast"]), Counts())
        assert (run["difference"], run["exclusions"]) == (None, plan["exclusions"])
        return
    assert (run["status"], run["errors"]) == ("DONE", [])
    assert counts(run["results"]) == expected.cells
    assert sum(cell["leftAlone"] or 0 for cell in run["results"]) == expected.left_alone
    assert run["progress"]["done"] == run["progress"]["total"]
    assert run["difference"] == {
        "leftPopulation": expected.gone,
        "choseSince": expected.left_alone,
        "excludedSince": expected.excluded_since,
    }
    compare_exclusions(run, expected.exclusions)


@pytest.mark.slow
@settings(
    max_examples=int(_EXAMPLES or 25),
    derandomize=_EXAMPLES is None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if _EXAMPLES else [Phase.generate],  # shrinking takes minutes
    suppress_health_check=[*HealthCheck],
)
@given(story=stories())
async def test_a_plan_and_its_application_are_as_the_model_says(
    db: Pool, host: PluginHost, server: TestServer, story: tuple[World, Request, World]
) -> None:
    """Counts, exclusions and the difference of a plan and of its application, whatever is written between them; with
    nothing written the two are the same and the difference is zero (D12-D20)."""
    world, request, later = story
    foreseen = model.run(world, request, deniers)
    async with db.transaction() as conn:
        loaded = await load(conn, host, world, f"plan{next(_codes)}")
        start = await stored(conn, loaded)
    answer = await plan(server, loaded, request)
    assert answer["userErrors"] == []
    planned = answer["run"]
    compare_plan(planned, foreseen)
    async with db.transaction() as conn:
        assert await stored(conn, loaded) == start
        if later != world:
            await reload(conn, loaded, later)
    expected = apply(foreseen, world, later, request, deniers)
    token = server.token(district=loaded.district.code)
    run = (await server.run(APPLY, {"id": planned["id"]}, token=token))["applyBatch"]["run"]
    compare_applied(run, planned, expected)
    if later == world:
        assert run["results"] == planned["forecast"]
        assert run["exclusions"] == planned["exclusions"]
        assert set(run["difference"].values()) == {0}
    async with db.acquire() as conn:
        assert await stored(conn, loaded) == modelled(expected.world or later, loaded)
    event(f"changed between: {later != world}, failed: {expected.failed}")
    for name in ("gone", "left_alone", "excluded_since"):
        event(f"{name}: {getattr(expected, name) > 0}")
