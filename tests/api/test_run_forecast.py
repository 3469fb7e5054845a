"""What a plan foresees and what a run did are never the same field: whatever becomes of the run (D20)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.migrations import migrations
from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from tests.support.batch import CELL
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving

RUN = """run {
  id status population progress { done total } errors difference { leftPopulation } restored
  results { ...cell } forecast { ...cell }
} userErrors { code } """
FIELDS = """ fragment cell on BatchCellResult {
  contactPoint reason set updated unchanged overwroteChosen keptChosen excluded leftAlone peopleAffected
}"""
SUBMIT = f"""mutation ($dry: Boolean!) {{ batchSetPreferences(input: {{
  mode: STUDENTS, cells: [{{ contactPoint: CELL_PHONE, reason: EMERGENCY, set: ON }}], dryRun: $dry, waitSeconds: 30
}}) {{ {RUN} }} }}{FIELDS}"""
NAMES = ("updated", "unchanged", "overwroteChosen", "keptChosen", "excluded", "leftAlone", "peopleAffected")
NOTHING, FORECAST = (0, 0, 0, 0, 0, 0, 0), (2, 1, 0, 0, 1, 0, 2)


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    """A server with four students: one without a cell phone, one with the cell on."""
    school = await district.school()
    people = [await district.student(school, cell_phone=f"555-010{n}") for n in range(3)]
    await district.student(school)
    await district.prefer(people[0], CELL, on=("EMERGENCY",))
    async with serving(db, host, "maple") as server:
        yield server


async def planned(server: TestServer) -> Any:
    return (await server.run(SUBMIT, {"dry": True}))["batchSetPreferences"]["run"]


async def act(server: TestServer, mutation: str, run: Any) -> Any:
    """Apply, cancel or revert a run, wait for the end of it, and return the payload's run."""
    wait = "" if mutation == "cancelBatch" else ", waitSeconds: 30"
    document = f"mutation ($id: ID!) {{ {mutation}(id: $id{wait}) {{ {RUN} }} }}{FIELDS}"
    payload = (await server.run(document, {"id": run["id"]}))[mutation]
    assert payload["userErrors"] == []
    return payload["run"]


def counts(cells: list[Any] | None) -> tuple[int, ...] | None:
    """Return the counts of the one cell that is named; all others are NO_CHANGE without any. None for no cells."""
    if cells is None:
        return None
    assert len(cells) == 48
    named = [cell for cell in cells if cell["set"] != "NO_CHANGE"]
    assert all(cell[name] is None for cell in cells if cell not in named for name in NAMES)
    [cell] = named
    assert (cell["contactPoint"], cell["reason"], cell["set"]) == ("CELL_PHONE", "EMERGENCY", "ON")
    return tuple(cell[name] for name in NAMES)


def told(run: Any) -> tuple[Any, ...]:
    return run["status"], counts(run["results"]), counts(run["forecast"])


async def test_a_plan_foresees_and_has_done_nothing(server: TestServer) -> None:
    """A plan's numbers are its forecast; applied it has done what it foresaw, which stays beside it; undone, too."""
    plan = await planned(server)
    assert told(plan) == ("PLANNED", NOTHING, FORECAST)
    done = await act(server, "applyBatch", plan)
    assert told(done) == ("DONE", FORECAST, FORECAST)
    revert = await act(server, "revertBatch", plan)
    assert (revert["status"], revert["restored"], revert["forecast"]) == ("DONE", 2, None)


async def test_a_run_that_was_not_planned_first_has_no_forecast(server: TestServer) -> None:
    """A run that was not asked for as a plan foresees nothing: it has done what it has done."""
    run = (await server.run(SUBMIT, {"dry": False}))["batchSetPreferences"]["run"]
    assert told(run) == ("DONE", FORECAST, None)


async def test_a_cancelled_plan_has_updated_nothing(server: TestServer) -> None:
    """A plan that is cancelled has not done what it foresaw."""
    cancelled = await act(server, "cancelBatch", await planned(server))
    assert told(cancelled) == ("CANCELLED", NOTHING, FORECAST)
    assert cancelled["progress"] == {"done": 0, "total": 3}


async def test_a_plan_cancelled_in_the_queue_has_updated_nothing(
    server: TestServer, district: DistrictBuilder
) -> None:
    """A plan that waits its turn to be applied and is cancelled then has not done what it foresaw (D21)."""
    plan = await planned(server)
    await district.conn.execute(
        "insert into batch_run (district_id, mode, scope, status, requested_by, lease_owner, lease_expires_at)"
        " values ($1, 'STUDENTS', '{}', 'APPLYING', 'ADMIN', 'another', now() + interval '1 hour')",
        district.id,
    )
    document = f"mutation ($id: ID!) {{ applyBatch(id: $id, waitSeconds: 0) {{ {RUN} }} }}{FIELDS}"
    queued = (await server.run(document, {"id": plan["id"]}))["applyBatch"]["run"]
    assert told(queued) == ("QUEUED", NOTHING, FORECAST)
    assert told(await act(server, "cancelBatch", plan)) == ("CANCELLED", NOTHING, FORECAST)


async def test_a_failed_plan_has_updated_nothing(server: TestServer, district: DistrictBuilder) -> None:
    """A plan that can no longer be applied says why, and has not done what it foresaw (D15)."""
    plan = await planned(server)
    await district.conn.execute(
        "insert into disabled_cell values ($1, 'CELL_PHONE', 'EMERGENCY')", district.id
    )
    failed = await act(server, "applyBatch", plan)
    assert told(failed) == ("FAILED", NOTHING, FORECAST)
    assert len(failed["errors"]) == 1
    assert failed["difference"] is None


async def test_plans_made_before_are_told_apart(server: TestServer, district: DistrictBuilder) -> None:
    """The migration takes the counts of plans that wait for what they are: foreseen. Those of runs stay."""
    plan = await planned(server)
    done = (await server.run(SUBMIT, {"dry": False}))["batchSetPreferences"]["run"]
    await district.conn.execute(
        "update batch_cell c set updated = f.updated, unchanged = f.unchanged, excluded = f.excluded,"
        " people_affected = f.people_affected from batch_forecast f where f.batch_run_id = c.batch_run_id;"
        " drop table batch_forecast"
    )
    [forecast] = [each for each in migrations() if each.name.endswith("forecast")]
    await district.conn.execute(forecast.sql)
    read = f"query ($id: ID!) {{ batchRun(id: $id) {{ status results {{ ...cell }} forecast {{ ...cell }} }} }}{FIELDS}"
    assert told((await server.run(read, {"id": plan["id"]}))["batchRun"]) == ("PLANNED", NOTHING, FORECAST)
    assert told((await server.run(read, {"id": done["id"]}))["batchRun"]) == ("DONE", FORECAST, None)
