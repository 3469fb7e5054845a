"""`gql-server batch`, as a process against a real server: the matrix, the numbers, the file, and what it refuses."""

import asyncio
import csv
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gql_server.cli.batch_command import parse_cell
from gql_server.cli.batch_report import notes
from gql_server.db.pool import Pool
from gql_server.domain.channels import Method
from gql_server.domain.viewer import Role
from gql_server.errors import Rejected
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.command import COMMAND, environment, gql_server, refusal
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

CELL = ("--set", "CELL_PHONE:EMERGENCY=ON")
STUDENTS = ("--mode", "STUDENTS", *CELL)


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    """A server with three students of grade 09 at one school and one of grade 10 at another."""
    high, low = await district.school("Maple High"), await district.school("Maple Low")
    for n in range(3):
        await district.student(high, cell_phone=f"555-010{n}")
    await district.student(low, grade="10", cell_phone="555-0109")
    async with serving(db, host, "maple") as server:
        yield server


async def batch(
    server: TestServer, *arguments: str, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command against a server, as an administrator or with a token."""
    settings = {"URL": server.url, "TOKEN": server.token() if token is None else token}
    return await asyncio.to_thread(gql_server, "batch", *arguments, settings=settings)


async def test_it_prints_the_matrix(server: TestServer) -> None:
    """A batch ends with its matrix (D20), the run's id, how to undo it, and exit code 0; nothing is on stderr."""
    result = await batch(server, *STUDENTS)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "STUDENTS, 4 people selected. Preferences updated:" in lines
    [row] = [line for line in lines if line.startswith("EMERGENCY")]
    assert row.split()[1:] == [".", ".", ".", "4", ".", "."]
    assert "run_1: DONE" in lines
    assert lines[-1].endswith("gql-server batch --revert run_1")
    again = await batch(server, *STUDENTS)
    assert "4 were already set as requested." in again.stdout


async def test_it_prints_json(server: TestServer) -> None:
    """With --json stdout is the run as JSON and nothing else."""
    result = await batch(server, *STUDENTS, "--json", "--keep-chosen")
    run = json.loads(result.stdout)
    assert (result.returncode, run["status"], run["population"], run["keepChosen"]) == (0, "DONE", 4, True)
    updated = {(cell["contactPoint"], cell["reason"]): cell["updated"] for cell in run["results"]}
    assert updated.pop(("CELL_PHONE", "EMERGENCY")) == 4
    assert set(updated.values()) == {None}


@pytest.mark.parametrize(
    ("arguments", "population"),
    [
        (("--school", "maple high"), 3),
        (("--school", "Maple High", "--school", "Maple Low"), 4),
        (("--school", "school_2"), 1),
        (("--grade", "10"), 1),
        (("--grade", "09", "--grade", "10", "--school-year", "2026"), 4),
        (("--filter", "Tenth grade"), 1),
        (("--filter", "filter_"), 1),
    ],
)
async def test_the_scope_is_by_name_or_id(
    server: TestServer, district: DistrictBuilder, arguments: tuple[str, ...], population: int
) -> None:
    """Schools, grades, the year and a saved filter narrow the batch (D12); names are found whatever their case."""
    criteria = '{"field": "grade", "in": ["10"]}'
    number = await district.insert(
        "saved_filter", "saved_filter_id", name="Tenth grade", kind="STUDENT", criteria=criteria
    )
    given = [f"filter_{number}" if argument == "filter_" else argument for argument in arguments]
    result = await batch(server, *STUDENTS, "--json", *given)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["population"] == population


async def test_every_exclusion_is_written(
    server: TestServer, district: DistrictBuilder, tmp_path: Path
) -> None:
    """--exclusions writes a line for each cell of each person that a rule kept out, over all pages."""
    school = await district.school("Maple Middle")
    for n in range(120):
        await district.student(school, name=f"Sam{n} Lane", source_id=f"S{n}", cell_phone=f"555-1{n:03}")
        await district.opt_out(f"555-1{n:03}", Method.VOICE)
    path = tmp_path / "out.csv"
    result = await batch(server, *STUDENTS, "--exclusions", str(path), "--school", "Maple Middle")
    assert result.returncode == 0, result.stderr
    assert str(path) in result.stdout
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert {row["person_source_id"] for row in rows} == {f"S{n}" for n in range(120)}
    assert {(row["contact_point"], row["reason"]) for row in rows} == {("CELL_PHONE", "EMERGENCY")}
    assert all(row["rule"] and row["because"] for row in rows)
    assert {row["code"] for row in rows} == {"OPTED_OUT"}
    assert os.listdir(tmp_path) == ["out.csv"]


async def test_json_says_of_each_rule_what_the_table_says(
    server: TestServer, district: DistrictBuilder
) -> None:
    """--json has each rule's code, words and remedy, as the exclusions' file has them."""
    await district.student(await district.school("Maple Middle"), cell_phone="555-1777")
    await district.opt_out("555-1777", Method.VOICE)
    result = await batch(server, *STUDENTS, "--json", "--school", "Maple Middle")
    (rule,) = json.loads(result.stdout)["excludedByRule"]
    assert (rule["rule"], rule["code"], rule["excluded"]) == ("opt_outs.opt_out", "OPTED_OUT", 1)
    assert rule["because"]
    assert rule.keys() >= {"remedy"}


async def test_a_file_that_cannot_be_written_is_said_before_anything_is_sent(
    server: TestServer, district: DistrictBuilder, tmp_path: Path
) -> None:
    """Without a place for the exclusions no batch is sent."""
    path = str(tmp_path / "nowhere" / "out.csv")
    assert path in refusal(await batch(server, *STUDENTS, "--exclusions", path))
    assert await district.conn.fetchval("select count(*) from batch_run") == 0


async def test_user_errors_are_a_line_each(server: TestServer) -> None:
    """What the server rejects is one line an error on stderr, nothing on stdout, and exit code 1."""
    result = await batch(server, "--mode", "CENSUS_STAFF", "--set", "EMAIL:NOPE=ON", "--json")
    assert (result.returncode, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("Error: ") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--mode"),
        (("--mode", "STUDENTS", "--watch", "run_1"), "--mode"),
        (("--watch", "run_1", "--dry-run"), "already has its cells"),
        (("--watch", "run_999"), "no run run_999. The query '{ batchRuns "),
        (("--mode", "STUDENTS", "--set", "CELL_PHONE=ON"), "CELL_PHONE:EMERGENCY=ON"),
        ((*STUDENTS, "--school", "Nowhere"), "'Maple High', 'Maple Low'"),
        ((*STUDENTS, "--filter", "Nowhere"), "saved filter"),
        ((*STUDENTS, "--filter", "filter_999"), "Use an id that `savedFilters` lists."),
        ((*STUDENTS, "--filter", "Nowhere"), "Make one with the mutation `saveFilter`"),
        ((*STUDENTS, "--url", "http://127.0.0.1:1"), "does not answer: nothing listens there."),
        ((*STUDENTS, "--url", "127.0.0.1"), "must begin with http://"),
        ((*STUDENTS, "--token", "nonsense"), "token"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    server: TestServer, arguments: tuple[str, ...], words: str
) -> None:
    """Orders that make no sense, names that find nothing, servers that do not answer: one line, exit code 1."""
    assert words in refusal(await batch(server, *arguments))


async def test_a_name_of_two_is_not_chosen_from(server: TestServer, district: DistrictBuilder) -> None:
    """Where a name fits several schools the ids are listed, and nothing is sent."""
    for number in ("S3", "S4"):
        await district.insert("school", source_id=number, name="Twin")
    message = refusal(await batch(server, *STUDENTS, "--school", "twin"))
    assert "school_3, school_4" in message
    assert await district.conn.fetchval("select count(*) from batch_run") == 0
    by_its_number = await batch(server, *STUDENTS, "--school", "S3")
    assert "nobody" in refusal(by_its_number)


async def test_it_needs_an_administrators_token(server: TestServer) -> None:
    """No token is said before anything is sent; another role's is refused by the server."""
    assert "GQL_SERVER_TOKEN" in refusal(await batch(server, *STUDENTS, token=""))
    message = refusal(await batch(server, *STUDENTS, token=server.token(Role.VENDOR)))
    assert "administrator" in message


async def test_ctrl_c_leaves_the_run_alone(server: TestServer, district: DistrictBuilder) -> None:
    """Ctrl+C ends the command, says that the run goes on, how to cancel it and how to look on; --watch does that."""
    await district.conn.execute(
        "insert into batch_run (district_id, mode, scope, status, requested_by, lease_owner, lease_expires_at)"
        " values ($1, 'STUDENTS', '{}', 'PLANNING', 'ADMIN', 'another', now() + interval '1 hour')",
        district.id,
    )
    settings = {"URL": server.url, "TOKEN": server.token()}
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), "batch", *STUDENTS,
        env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A shell that runs the tests in its background has them ignore Ctrl+C, and their children inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    async with asyncio.timeout(30):
        while await district.conn.fetchval("select count(*) from batch_run") < 2:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, complaints = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out) == (130, b"")
    assert b"gql-server batch --cancel run_2" in complaints
    assert b"Traceback" not in complaints
    await district.conn.execute("update batch_run set status = 'DONE' where batch_run_id = 1")
    watched = await batch(server, "--watch", "run_2")
    assert watched.returncode == 0
    assert "run_2: DONE" in watched.stdout


@pytest.mark.parametrize(
    "text", ["", "CELL_PHONE", "CELL_PHONE:GENERAL", "FAX:GENERAL=ON", "EMAIL:GENERAL=YES"]
)
def test_a_cell_must_be_one(text: str) -> None:
    """What is no cell is refused with an example, or with the names there are (D13)."""
    with pytest.raises(Rejected, match=r"CELL_PHONE"):
        parse_cell(text) if text != "EMAIL:GENERAL=YES" else parse_cell("CELL_PHONE:GENERAL=YES")


def test_cells_are_read_whatever_their_case() -> None:
    """Cells may be typed in small letters."""
    assert parse_cell("cell_phone:emergency=on") == {
        "contactPoint": "CELL_PHONE", "reason": "EMERGENCY", "set": "ON",
    }  # fmt: skip


def test_what_else_there_is_to_say_is_said() -> None:
    """Counts beside the matrix are summed over the cells; those that are nought or not there are not said."""
    cell = {"unchanged": 1, "overwroteChosen": 1200, "keptChosen": 0, "excluded": None}
    difference = {"leftPopulation": 3, "choseSince": 0, "outdated": True}
    run = {
        "results": [cell, cell],
        "difference": difference,
        "reverts": None,
        "restored": 5,
        "leftAlone": None,
        "status": "DONE",
    }
    assert [line.split()[0] for line in notes(run)] == ["2", "2,400", "5", "3", "The"]
