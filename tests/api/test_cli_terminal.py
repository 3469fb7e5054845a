"""`gql-server` on a terminal of 80 columns: a batch is shown before it is applied, and nothing is cut or torn."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.channels import Method
from gql_server.hooks.host import PluginHost
from tests.support.batch import CELL
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving
from tests.support.terminal import COLUMNS, Shown, on_terminal

pytestmark = pytest.mark.slow

BATCH = (
    "batch", "--mode", "STUDENTS", "--set", "CELL_PHONE:EMERGENCY=ON", "--set", "HOUSEHOLD_PHONE:EMERGENCY=ON",
    "--set", "CELL_PHONE:STAFF=ON",
)  # fmt: skip
PLAN = """mutation { batchSetPreferences(input: {
  mode: STUDENTS, cells: [{ contactPoint: CELL_PHONE, reason: EMERGENCY, set: ON }], dryRun: true
}) { run { status } } }"""
# The last space is written by itself: what is typed before it comes would be shown before it.
QUESTION = "Update 5 preferences? [y/N]: "
UNDO = "Undo run_1: put back up to 5 preferences? [y/N]: "


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    """A server with five students with a household phone: one opted out, one who chose that no call comes."""
    school = await district.school("Maple High")
    people = [await district.student(school, cell_phone=f"555-010{n}") for n in range(5)]
    await district.household(*people, phone="555-0199")
    await district.prefer(people[0], CELL, chosen=("EMERGENCY",))
    await district.opt_out("555-0104", Method.VOICE)
    async with serving(db, host, "maple") as server:
        yield server


async def sit(server: TestServer, *arguments: str, **answers: bytes) -> Shown:
    """Run a command on a terminal, answering what it asks."""
    settings = {"URL": server.url, "TOKEN": server.token()}
    typed = {QUESTION: answers["answer"], UNDO: answers["answer"]} if answers else None
    shown = await asyncio.to_thread(on_terminal, *arguments, settings=settings, answers=typed)
    assert [line for line in shown.lines if len(line) > COLUMNS and not line.startswith("Error: ")] == []
    return shown


async def on(district: DistrictBuilder) -> list[list[str]]:
    people = await district.conn.fetch("select person_id from person order by person_id")
    return [await district.on(row["person_id"], CELL) for row in people]


async def test_the_plan_is_shown_and_applied(server: TestServer, district: DistrictBuilder) -> None:
    """On a terminal a batch says how many it would update, whose choices it would overwrite (D18), whom the household
    phone concerns (D17) and who is kept out by which rule; after a yes it does just that (D20)."""
    shown = await sit(server, *BATCH, answer=b"y\r")
    assert shown.returncode == 0, shown.text
    text = " ".join(shown.text.split())
    plan, done = text.split(QUESTION)
    assert "STUDENTS, 5 people selected. Preferences that would be updated:" in plan
    assert "EMERGENCY 1 . . 4 . . " in plan
    assert "1 of those to be updated are people's own choice, and would be overwritten." in plan
    assert (
        "belongs to everyone who lives there. People in the households that would change: EMERGENCY 5."
        in plan
    )
    kept_out = (
        "6 would be excluded by rules: 4 staff_reason.assignment STAFF messages are only for people with a district"
        " assignment. 2 opt_outs.opt_out An opt-out is on record for this address."
    )
    assert kept_out in plan
    assert "STUDENTS, 5 people selected. Preferences updated:" in done
    assert "run_1: DONE" in done
    assert await on(district) == [["EMERGENCY"]] * 4 + [[]]
    assert await district.conn.fetchval("select count(*) from batch_run") == 1


@pytest.mark.parametrize("answer", [b"\r", b"\x03"])
async def test_without_a_yes_nothing_is_written(
    server: TestServer, district: DistrictBuilder, tmp_path: Path, answer: bytes
) -> None:
    """Enter and Ctrl+C leave all as it is: the plan is cancelled, and no file appears."""
    shown = await sit(server, *BATCH, "--exclusions", str(tmp_path / "out.csv"), answer=answer)
    assert shown.returncode == 1
    assert "run_1: CANCELLED. Nothing was updated." in shown.text
    assert await on(district) == [[]] * 5
    assert await district.conn.fetchval("select status from batch_run") == "CANCELLED"
    assert os.listdir(tmp_path) == []


async def test_yes_does_not_ask(server: TestServer, district: DistrictBuilder) -> None:
    """With --yes a batch is run at once."""
    shown = await sit(server, *BATCH, "--yes")
    assert (shown.returncode, QUESTION in shown.text) == (0, False)
    assert "run_1: DONE" in shown.text
    assert await on(district) == [["EMERGENCY"]] * 4 + [[]]


async def test_a_plan_is_shown_again_before_it_is_applied(
    server: TestServer, district: DistrictBuilder
) -> None:
    """--dry-run leaves a plan; --apply shows it and asks, too; after a no the plan stays, after a yes it is done."""
    planned = await sit(server, *BATCH, "--dry-run")
    assert QUESTION not in planned.text
    assert "gql-server batch --apply run_1" in planned.text
    refused = await sit(server, "batch", "--apply", "run_1", answer=b"n\r")
    assert refused.returncode == 1
    assert "run_1 is still PLANNED" in refused.text
    shown = await sit(server, "batch", "--apply", "run_1", answer=b"y\r")
    assert shown.returncode == 0
    assert "run_1: DONE" in shown.text
    assert await on(district) == [["EMERGENCY"]] * 4 + [[]]


async def test_what_a_run_did_is_shown_before_it_is_undone(
    server: TestServer, district: DistrictBuilder
) -> None:
    """--revert shows what the run did and asks, too; after a no all stays, after a yes or with --yes it is undone."""
    done = await on(district)
    await sit(server, *BATCH, "--yes")
    updated = await on(district)
    refused = await sit(server, "batch", "--revert", "run_1", answer=b"n\r")
    assert refused.returncode == 1
    assert "STUDENTS, 5 people selected. Preferences updated:" in refused.lines
    assert "Nothing was updated. run_1 is still DONE." in refused.lines
    assert await on(district) == updated
    shown = await sit(server, "batch", "--revert", "run_1", answer=b"y\r")
    assert shown.returncode == 0
    assert "Preferences put back:" in shown.text
    assert await on(district) == done
    again = await sit(server, *BATCH, "--yes")
    assert "run_3: DONE" in again.lines
    unasked = await sit(server, "batch", "--revert", "run_3", "--yes")
    assert (unasked.returncode, "[y/N]" in unasked.text) == (0, False)


async def test_what_wrote_nothing_has_updated_nothing(server: TestServer, district: DistrictBuilder) -> None:
    """A plan that was cancelled, or could not be applied, says why first and that nothing was updated (D20)."""
    for _ in range(2):
        await server.run(PLAN)
    cancelled = await sit(server, "batch", "--cancel", "run_1")
    assert "STUDENTS, 5 people selected. CANCELLED: nothing was updated." in cancelled.lines
    await district.conn.execute(
        "insert into disabled_cell values ($1, 'CELL_PHONE', 'EMERGENCY')", district.id
    )
    failed = await sit(server, "batch", "--apply", "run_2", "--yes")
    assert failed.returncode == 1
    words = "STUDENTS, 5 people selected. FAILED: nothing was updated."
    assert failed.text.index("Error: The cell CELL_PHONE") < failed.text.index(words)
    assert "Household" not in failed.text


@pytest.mark.parametrize("command", ["plugins", "settings"])
def test_no_table_is_cut(command: str) -> None:
    """What other commands list fits 80 columns whole: nothing is left out for want of room."""
    shown = on_terminal(command, settings={})
    assert shown.returncode == 0
    assert [line for line in shown.lines if len(line) > COLUMNS] == []
    assert "…" not in shown.text
