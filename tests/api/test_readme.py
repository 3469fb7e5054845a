"""The README is true: what it says to type is typed, and its plug-in is loaded and does what it says."""

import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import orjson
import pytest
from graphql import parse, validate

from gql_server.api.schema import build_schema
from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.edfi import EdfiFolder, phone
from tests.support.server import serving

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DATABASE = "postgresql://user:password@localhost/contacts"
ELSEWHERE = {
    "pip install . && gql-server demo --once": "test_wheel.py and test_demo.py",
    "pip install '.[test]' && pytest": "this very run",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_every_command_is_run_by_a_test() -> None:
    """A block of commands that no test runs may not be in the README."""
    first, tests, own, call, batch = (block.strip() for block in blocks("sh"))
    assert {first, tests} == set(ELSEWHERE)
    assert own.splitlines()[-1] == "gql-server serve"
    assert call.startswith("curl")
    assert batch.startswith("gql-server batch")


@pytest.mark.slow
def test_its_commands_work(dsn: str, tmp_path: Path) -> None:
    """The commands for one's own PostgreSQL lead to a server that answers the commands that call it."""
    edfi = EdfiFolder(tmp_path / "edfi-files")
    edfi.person("Student", "1", "Sam Lane")
    edfi.person("Contact", "1", "Ada Lane", phone("Mobile", "555-0100"))
    edfi.relate("1", "1")
    edfi.enroll("1")
    edfi.write()
    own, call, batch = (block.strip() for block in blocks("sh")[2:])
    assert DATABASE in own
    script = own.replace(DATABASE, shlex.quote(dsn))
    script = script.replace("gql-server token", "TOKEN=$(gql-server token").replace(
        "--role admin", "--role admin)"
    )
    script = script.replace("gql-server serve", "echo $TOKEN; exec gql-server serve")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "GQL_SERVER_PORT": "0"}
    with subprocess.Popen(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            printed = _until_serving(process)
            port = re.findall(r"http://127\.0\.0\.1:(\d+)", printed)[-1]
            token = re.findall(r"^ey[\w.-]+$", printed, flags=re.MULTILINE)[-1]
            here = {**env, "TOKEN": token, "GQL_SERVER_URL": f"http://127.0.0.1:{port}"}
            answer, _ = (
                subprocess.run(
                    ["bash", "-euc", command],
                    env=here,
                    cwd=tmp_path,
                    capture_output=True,
                    check=True,
                    timeout=30,
                )
                for command in (call.replace(":8000/", f":{port}/"), batch)
            )
        finally:
            process.terminate()
    assert len(orjson.loads(answer.stdout)["data"]["people"]["edges"]) == 2
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith("person_id,")


def _until_serving(process: "subprocess.Popen[str]") -> str:
    printed = ""
    assert process.stdout is not None
    for line in process.stdout:
        printed += line
        if "http://127.0.0.1:" in line:
            _wait_for(re.findall(r"http://127\.0\.0\.1:\d+", line)[-1])
            return printed
    raise AssertionError(printed)


def _wait_for(url: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{url}/healthz").close()
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} does not answer")


@pytest.mark.slow
def test_its_picture_is_what_is_shown(tmp_path: Path) -> None:
    """The result in the README is the one that its first command prints, in a terminal of 80 columns."""
    command = [str(Path(sys.executable).parent / "gql-server"), "demo", "--once"]
    env = {**os.environ, "COLUMNS": "80"}
    shown = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True, timeout=120
    )
    printed = "\n".join(line.rstrip() for line in shown.stdout.splitlines())
    assert blocks("text")[0].strip() in printed


async def test_its_plugin_and_its_mutation_work(
    db: Pool, district: DistrictBuilder, builtin_plugins: Path, tmp_path: Path
) -> None:
    """The plug-in keeps what it says out of a batch, which is sent as the README sends it."""
    (tmp_path / "work_phones.py").write_text(blocks("python")[0], encoding="utf-8")
    host = PluginHost([builtin_plugins, tmp_path])
    school = await district.school()
    student = await district.student(school)
    await district.student(school, grade="10")
    parent = await district.person("Ada Lane", work_phone="555-0100")
    await district.relate(student, parent)
    await district.household(parent, phone="555-0101")
    document = re.findall(r"query: `(.*?)`", blocks("js")[0], flags=re.DOTALL)[0]
    cells = [
        {"contactPoint": "WORK_PHONE", "reason": reason, "set": "ON"} for reason in ("EMERGENCY", "GENERAL")
    ]
    async with serving(db, host, "maple") as server:
        answer = await server.run(
            document,
            {"input": {"mode": "STUDENT_CONTACTS", "scope": {"grades": ["09", "10"]}, "cells": cells}},
        )
        run = answer["batchSetPreferences"]["run"]
        done = {
            (row["reason"], row["updated"], row["excluded"]) for row in run["results"] if row["set"] == "ON"
        }
        assert done == {("EMERGENCY", 1, 0), ("GENERAL", 0, 1)}
        exclusions = await server.run(
            "query ($id: ID!) { batchRun(id: $id) { exclusions { edges { node { rule because remedy } } } } }",
            {"id": run["id"]},
        )
    assert exclusions["batchRun"]["exclusions"]["edges"] == [
        {
            "node": {
                "rule": "work_phones.what_cannot_wait",
                "because": "Work phones are for emergencies and absences alone.",
                "remedy": "Use another phone.",
            }
        }
    ]


def test_its_subscription_is_one() -> None:
    """The subscription in the README is valid."""
    assert validate(build_schema().graphql, parse(blocks("graphql")[0])) == []


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_its_links_lead_somewhere(link: str) -> None:
    """Every file that the README links to is there."""
    assert (ROOT / link).is_file()
