"""The demo: one command, from nothing to a served district or to the result of a batch."""

import json
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from gql_server.cli.batch_report import matrix
from tests.support.command import COMMAND, environment, gql_server, refusal
from tests.support.folders import database_folder

pytestmark = pytest.mark.slow

SMALL = ("--students", "60", "--seed", "5")


@contextmanager
def nothing_left() -> Iterator[dict[str, str]]:
    """Give settings for a demo with a folder of its own for temporary files, which must be empty at the end."""
    with database_folder() as folder:
        yield {"TMPDIR": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        left = [path.name for path in folder.iterdir() if path.name != "python_PostgresServer"]
        assert left == []  # but for the folder of the lock that all embedded servers of a user share


@pytest.fixture
def temporary() -> Iterator[dict[str, str]]:
    """Settings for one demo."""
    with nothing_left() as settings:
        yield settings


def once(settings: Mapping[str, str], folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run `demo --once` in a folder, to a good end."""
    result = subprocess.run(
        [str(COMMAND), "demo", "--once", *options],
        env={**environment(), **settings}, cwd=folder, timeout=120,
        text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `demo --once` prints."""
    with nothing_left() as settings:
        return once(settings, tmp_path_factory.mktemp("demo"), *SMALL).stdout


def test_once_prints_the_result_of_a_batch(shown: str) -> None:
    """`demo --once` runs a batch through HTTP, prints the matrix (D20) and who shares the household phones (D17),
    ends well, and leaves nothing behind."""
    lines = shown.splitlines()
    [header] = [line for line in lines if line.startswith(". No Change")]
    rows = lines[lines.index(header) + 1 :]
    for name, row in zip(("EMERGENCY", "ATTENDANCE", "BEHAVIOR"), rows[:3], strict=True):
        numbers = re.fullmatch(rf"{name} +(\d+)( +\.){{5}} *", row)
        assert numbers, row
        assert int(numbers[1]) > 0
    for name, row in zip(("STAFF", "GENERAL", "FOOD SERVICE", "PRIORITY", "TEACHER"), rows[3:8], strict=True):
        assert re.fullmatch(rf"{name}( +\.){{6}} *", row)
    assert lines[-1].startswith("Next: `gql-server demo`")
    assert re.search(r"EMERGENCY \d+, ATTENDANCE \d+, BEHAVIOR \d+\.", shown)


def test_once_is_the_same_every_time(shown: str, temporary: dict[str, str], tmp_path: Path) -> None:
    """Two runs with one seed print the same."""
    assert once(temporary, tmp_path, *SMALL).stdout == shown != ""


TALKS = """
import logging
from gql_server.hooks import hookimpl

@hookimpl
def run_finished(run):
    logging.getLogger("talks").info("heard of a run")
"""


@pytest.mark.parametrize("level", [None, "INFO"])
def test_the_demo_is_as_quiet_as_it_is_told(
    temporary: dict[str, str], tmp_path: Path, level: str | None
) -> None:
    """The demo shows warnings alone, unless GQL_SERVER_LOG_LEVEL says what else is to be seen."""
    (tmp_path / "plugs").mkdir()
    (tmp_path / "plugs" / "talks.py").write_text(TALKS, encoding="utf-8")
    settings = {"PLUGINS_DIR": str(tmp_path / "plugs"), **({"LOG_LEVEL": level} if level else {})}
    result = once({**environment(settings), **temporary}, tmp_path, "--students", "20")
    assert ("heard of a run" in result.stdout + result.stderr) is (level == "INFO")


def test_the_demo_serves_what_it_prints(temporary: dict[str, str], tmp_path: Path) -> None:
    """`demo` prints a token for every role and a command that works as it stands, and ends well on SIGINT."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(COMMAND), "demo", "--students", "60"],
        env={**environment({"PORT": str(port)}), **temporary}, cwd=tmp_path, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "Ctrl+C" in line:
                break
        [command] = [line for line in printed if line.startswith("curl ")]
        answer = subprocess.run(shlex.split(command), check=True, capture_output=True, timeout=60)
        assert len(json.loads(answer.stdout)["data"]["people"]["edges"]) == 3
        roles = ["administrator", "guardian", "student", "staff", "vendor"]
        assert [line.split()[0] for line in printed if re.search(r"  ey\S+$", line)] == roles
    finally:
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in complaints


def test_a_port_that_is_taken_is_said_at_once() -> None:
    """A taken port stops the demo before it makes anything, in one line that says what to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        message = refusal(gql_server("demo", settings={"PORT": str(taken.getsockname()[1])}))
    assert "GQL_SERVER_PORT" in message


def test_a_terminated_demo_leaves_nothing_behind(temporary: dict[str, str], tmp_path: Path) -> None:
    """SIGTERM while the district is made stops PostgreSQL and removes its folder."""
    process = subprocess.Popen(
        [str(COMMAND), "demo", "--students", "200000"],
        env={**environment({"PORT": "0"}), **temporary}, cwd=tmp_path, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    folder = Path(temporary["TMPDIR"])
    while process.poll() is None and not list(folder.glob("*/postgres/postmaster.pid")):
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def postgres_of(folder: Path) -> list[psutil.Process]:
    """Return the PostgreSQL servers whose data lie below a folder."""
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "postgres"
        and any(str(folder) in word for word in process.info["cmdline"] or ())
    ]


@pytest.mark.parametrize("moment", ["postgres/PG_VERSION", "postgres/postmaster.pid"])
def test_a_killed_demo_leaves_nothing_behind(temporary: dict[str, str], tmp_path: Path, moment: str) -> None:
    """SIGKILL, while PostgreSQL starts and while the district is made, leaves neither its processes nor its data."""
    folder = Path(temporary["TMPDIR"])
    process = subprocess.Popen(
        [str(COMMAND), "demo", "--students", "200000"],
        env={**environment({"PORT": "0"}), **temporary}, cwd=tmp_path,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not list(folder.glob(f"*/{moment}")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while list(folder.glob("gql-server-*")) or postgres_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_matrix_shows_numbers_and_no_change() -> None:
    """A cell shows how many were updated, also none, and a dot where nothing was asked (D20)."""
    results = [
        {"contactPoint": kind, "reason": reason, "updated": updated}
        for kind, reason, updated in [
            ("HOUSEHOLD_PHONE", "EMERGENCY", 1234),
            ("HOUSEHOLD_PHONE", "FOOD_SERVICE", None),
            ("EMAIL", "EMERGENCY", None),
            ("EMAIL", "FOOD_SERVICE", 0),
        ]
    ]
    table = matrix(results)
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["EMERGENCY", "FOOD SERVICE"], ["1,234", "."], [".", "0"]]
    assert [column.header for column in table.columns] == ["\n. No Change", "Household\nphone", "\nEmail"]
