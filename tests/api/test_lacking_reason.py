"""A district that has no place yet for a reason of a newly loaded plug-in: all else goes on there, and everywhere."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving

PLUGIN = """
from gql_server.hooks import ContactReason, Deny, Rule, hookimpl

@hookimpl
def contact_reasons():
    return [ContactReason("SNOW_DAY", "Snow day", "School is closed because of the weather.")]

async def never(candidates, reader):
    return [Deny(reasons=frozenset({"SNOW_DAY"}), because="Snow is fun.") for _ in candidates]

@hookimpl
def eligibility_rules(request):
    return [Rule("never", "Snow is fun.", check=never)]
"""
BATCH = """mutation ($cell: BatchCellInput!) {
  batchSetPreferences(input: {mode: "STUDENTS", cells: [$cell]}) {
    run { status errors results { reason updated } } userErrors { code message path } } }"""
SINGLE = """mutation ($id: ID!, $cell: PreferenceCellInput!) {
  setPreferences(input: {personId: $id, cells: [$cell]}) { userErrors { code message path } } }"""


@pytest.fixture
async def server(
    db: Pool, builtin_plugins: Path, district: DistrictBuilder, tmp_path: Path
) -> AsyncIterator[TestServer]:
    """A server that has loaded a plug-in with a reason that the district was made without, and with a rule on it."""
    (tmp_path / "snow.py").write_text(PLUGIN)
    async with serving(db, PluginHost([builtin_plugins, tmp_path]), "maple") as server:
        yield server


async def test_a_reason_without_a_place_is_told_apart(server: TestServer, district: DistrictBuilder) -> None:
    """Naming it in a batch or a single write is an error that says what to run; nothing is written (D3)."""
    student = await district.student(await district.school(), email="sam@maple.example")
    cell = {"contactPoint": "EMAIL", "reason": "SNOW_DAY"}
    batch = await server.run(BATCH, {"cell": {**cell, "set": "ON"}})
    single = await server.run(
        SINGLE, {"id": f"person_{student}", "cell": {**cell, "method": "EMAIL", "on": True}}
    )
    for payload in (batch["batchSetPreferences"], single["setPreferences"]):
        [error] = payload["userErrors"]
        assert error["code"] == "REASON_NOT_SET_UP"
        assert "gql-server migrate" in error["message"]
        assert error["path"] == ["cells", "0", "reason"]
    assert batch["batchSetPreferences"]["run"] is None


async def test_all_else_goes_on(server: TestServer, district: DistrictBuilder) -> None:
    """Reads and batches of other reasons work, also where a rule speaks of that one; /readyz is ready."""
    await district.student(await district.school(), email="sam@maple.example")
    async with server.session.get(f"{server.url}/readyz") as response:
        assert (response.status, (await response.json())["status"]) == (200, "ready")
    assert "SNOW_DAY" not in str(await server.run("{ contactReasons { code } }"))
    cell = {"contactPoint": "EMAIL", "reason": "GENERAL", "set": "ON"}
    run = (await server.run(BATCH, {"cell": cell}))["batchSetPreferences"]["run"]
    assert (run["status"], run["errors"]) == ("DONE", [])
    assert {"reason": "GENERAL", "updated": 1} in run["results"]


async def test_a_reason_that_comes_while_the_server_runs_is_read_at_once(
    server: TestServer, district: DistrictBuilder
) -> None:
    """A read that has run before names a reason of the highest bit as soon as the district has it, and a bit that no
    reason has is none (D3)."""
    person = await district.person()
    both = (1 << 61) | 1 | 1 << 60
    await district.insert(
        "preference",
        person_id=person,
        contact_point="EMAIL",
        method="EMAIL",
        reasons_on=both,
        reasons_chosen=1 << 60,
    )
    asked = f'{{ person(id: "person_{person}") {{ preferences {{ contactPoint on chosen }} }} }}'

    async def email() -> tuple[list[str], list[str]]:
        preferences = (await server.run(asked))["person"]["preferences"]
        [found] = [each for each in preferences if each["contactPoint"] == "EMAIL"]
        return found["on"], found["chosen"]

    for _ in range(7):
        assert await email() == (["EMERGENCY"], [])
    await district.insert(
        "contact_reason", code="SNOW_DAY", bit=61, label="S", description="S", plugin="snow"
    )
    assert await email() == (["EMERGENCY", "SNOW_DAY"], [])
