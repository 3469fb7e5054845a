"""A run selects by the criteria that it was asked with, whatever becomes of its filter (D33)."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gql_server.db.migrations import migrations
from gql_server.db.pool import Pool
from gql_server.domain.channels import ContactPointKind
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

CELL = ContactPointKind.CELL_PHONE
RUN = "id status population errors difference { leftPopulation }"
SUBMIT = f"""mutation ($input: BatchSetPreferencesInput!) {{ batchSetPreferences(input: $input) {{
  run {{ {RUN} }} userErrors {{ code }} }} }}"""
APPLY = f"mutation ($id: ID!) {{ applyBatch(id: $id, waitSeconds: 30) {{ run {{ {RUN} }} }} }}"
SAVE = """mutation ($input: SaveFilterInput!) { saveFilter(input: $input) {
  filter { id } userErrors { code message } } }"""
DELETE = "mutation ($id: ID!) { deleteFilter(id: $id) { deletedId userErrors { code } } }"


class Story:
    """A district with a student in grade 09 and one in grade 10, and a filter for the first."""

    def __init__(self, server: TestServer, district: DistrictBuilder, ninth: int, tenth: int) -> None:
        self.server, self.district, self.ninth, self.tenth = server, district, ninth, tenth
        self.filter = ""

    async def save(self, grade: str) -> None:
        """Save the filter, or change it."""
        criteria = {"field": "grade", "is": grade}
        given = {"name": "A", "kind": "STUDENT", "criteria": criteria, "id": self.filter or None}
        saved = (await self.server.run(SAVE, {"input": given}))["saveFilter"]
        assert saved["userErrors"] == []
        self.filter = saved["filter"]["id"]

    async def delete(self) -> None:
        assert (await self.server.run(DELETE, {"id": self.filter}))["deleteFilter"] == {
            "deletedId": self.filter, "userErrors": [],
        }  # fmt: skip

    async def submit(self, *, dry_run: bool = False, wait: int = 30) -> Any:
        given = {
            "mode": "STUDENTS", "scope": {"filterId": self.filter}, "dryRun": dry_run, "waitSeconds": wait,
            "cells": [{"contactPoint": "CELL_PHONE", "reason": "GENERAL", "set": "ON"}],
        }  # fmt: skip
        answer = (await self.server.run(SUBMIT, {"input": given}))["batchSetPreferences"]
        assert answer["userErrors"] == []
        return answer["run"]

    async def block(self) -> int:
        """Record a run that another server works: the next one waits."""
        return await self.district.insert(
            "batch_run", "batch_run_id", mode="STUDENTS", scope="{}", status="APPLYING", requested_by="ADMIN",
            lease_owner="another", lease_expires_at=datetime.now(UTC) + timedelta(hours=1),
        )  # fmt: skip

    async def unblock(self, batch_run_id: int) -> None:
        await self.district.conn.execute("delete from batch_run where batch_run_id = $1", batch_run_id)

    async def ended(self, run_id: str) -> Any:
        """Wait for a run's end and return it."""
        async with asyncio.timeout(60):
            while True:
                text = f"query ($id: ID!) {{ batchRun(id: $id) {{ {RUN} }} }}"
                run = (await self.server.run(text, {"id": run_id}))["batchRun"]
                if run["status"] not in ("QUEUED", "PLANNING", "APPLYING"):
                    return run
                await asyncio.sleep(0.05)

    async def on(self) -> tuple[bool, bool]:
        """Whether the ninth and the tenth grade are reached."""
        ninth, tenth = [await self.district.on(n, CELL) for n in (self.ninth, self.tenth)]
        return bool(ninth), bool(tenth)


@pytest.fixture
async def story(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[Story]:
    school = await district.school()
    ninth, tenth = [
        await district.student(school, grade=grade, cell_phone="555-0100") for grade in ("09", "10")
    ]
    async with serving(db, host, "maple") as server:
        story = Story(server, district, ninth, tenth)
        await story.save("09")
        yield story


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_plan_is_applied_by_its_own_criteria(story: Story, deleted: bool) -> None:
    """A filter edited, and one deleted, since a plan changes nothing of what the plan does (D33)."""
    run = await story.submit(dry_run=True)
    await story.save("10")
    if deleted:
        await story.delete()
    applied = (await story.server.run(APPLY, {"id": run["id"]}))["applyBatch"]["run"]
    assert (applied["status"], applied["population"], applied["difference"]) == (
        "DONE", 1, {"leftPopulation": 0},
    )  # fmt: skip
    assert await story.on() == (True, False)


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_waiting_run_keeps_its_criteria(story: Story, deleted: bool) -> None:
    """A filter edited, and one deleted, while a run waits for its turn changes nothing of the run (D21, D33)."""
    before = await story.block()
    run = await story.submit(wait=0)
    assert run["status"] == "QUEUED"
    await story.save("10")
    if deleted:
        await story.delete()
    await story.unblock(before)
    assert (await story.ended(run["id"]))["status"] == "DONE"
    assert await story.on() == (True, False)


async def test_a_new_run_uses_the_filter_as_it_is(story: Story) -> None:
    """The next run selects by what the filter says then (D12, D33)."""
    await story.submit()
    await story.save("10")
    assert (await story.submit())["status"] == "DONE"
    assert await story.on() == (True, True)


async def test_runs_that_wait_while_the_server_is_replaced_keep_their_filter(story: Story) -> None:
    """A run that an older release recorded without criteria is given its filter's, once, by the migration (D33)."""
    (text,) = [migration.sql for migration in migrations() if migration.name.endswith("run_criteria")]
    conn = story.district.conn
    run = await story.submit(dry_run=True)
    await conn.execute("update batch_run set scope = scope - 'criteria'")
    await conn.execute(text)
    kept = json.loads(await conn.fetchval("select scope::text from batch_run"))
    assert kept["criteria"] == {"field": "grade", "is": "09"}
    await story.save("10")
    await conn.execute(text)
    await story.server.run(APPLY, {"id": run["id"]})
    assert await story.on() == (True, False)


async def test_a_run_without_its_criteria_selects_nobody(story: Story) -> None:
    """A run whose criteria are lost fails in words; it does not select everyone (D33)."""
    run = await story.submit(dry_run=True)
    await story.district.conn.execute("update batch_run set scope = scope - 'criteria'")
    applied = (await story.server.run(APPLY, {"id": run["id"]}))["applyBatch"]["run"]
    assert applied["status"] == "FAILED"
    assert "Submit the batch again" in applied["errors"][0]
    assert await story.on() == (False, False)
