"""What is wrong with a scope is said of the scope, in the options, the mutation and on the command line alike (D32)."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.hooks import BatchMode, Population, Sql, hookimpl
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.command import gql_server, refusal
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

OPTIONS = """query ($mode: ModeCode!, $scope: BatchScope!) { batchOptions(mode: $mode, scope: $scope) {
  population cells { contactPoint reason enabled because } } }"""
SUBMIT = """mutation ($input: BatchSetPreferencesInput!) { batchSetPreferences(input: $input) {
  run { status population errors } userErrors { code message path } } }"""
ON = [{"contactPoint": "CELL_PHONE", "reason": "EMERGENCY", "set": "ON"}]


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    """A server with students in the grades 07, 7, 10 and KG, and a teacher."""
    school = await district.school()
    for grade in ("07", "7", "10", "KG"):
        await district.student(school, grade=grade, cell_phone="555-0100")
    await district.assign(await district.person(cell_phone="555-0101"))
    await district.insert(
        "saved_filter", "saved_filter_id", name="All", kind="CENSUS",
        criteria='{"field": "hasContactPoint", "is": "CELL_PHONE"}',
    )  # fmt: skip
    async with serving(db, host, "maple") as server:
        yield server


async def options(server: TestServer, scope: dict[str, Any], mode: str = "STUDENTS") -> Any:
    body = {"query": OPTIONS, "variables": {"mode": mode, "scope": scope}}
    return (await server.post(body, token=server.token()))[1]


async def submitted(
    server: TestServer, scope: dict[str, Any], mode: str = "STUDENTS", cells: Any = ON
) -> Any:
    given = {"mode": mode, "scope": scope, "cells": cells, "waitSeconds": 30}
    return (await server.run(SUBMIT, {"input": given}))["batchSetPreferences"]


async def refused(server: TestServer, scope: dict[str, Any], mode: str = "STUDENTS") -> list[Any]:
    """Return the errors of a scope, which are the same in the options and the mutation."""
    answer = await submitted(server, scope, mode)
    asked = await options(server, scope, mode)
    told = [(error["extensions"]["code"], error["message"]) for error in asked["errors"]]
    assert answer["run"] is None
    assert told == [(error["code"], error["message"]) for error in answer["userErrors"]]
    return [(error["code"], error["path"], error["message"]) for error in answer["userErrors"]]


@pytest.mark.parametrize("grade", ["7", "07", "007"])
async def test_seven_is_seven(server: TestServer, grade: str) -> None:
    """`7` and `07` are one grade, whichever is asked for and whichever is on record (D32)."""
    assert (await options(server, {"grades": [grade]}))["data"]["batchOptions"]["population"] == 2
    assert (await submitted(server, {"grades": [grade]}))["run"]["population"] == 2
    listed = await server.run(
        "query ($grade: String!) { people(filter: {grade: $grade}) { edges { node { enrollments { grade } } } } }",
        {"grade": grade},
    )
    grades = {edge["node"]["enrollments"][0]["grade"] for edge in listed["people"]["edges"]}
    assert grades == {"07", "7"}  # what is stored stays as it is
    saved = await server.run(
        "mutation ($criteria: JSON!) { saveFilter(input: {name: \"7\", kind: STUDENT, criteria: $criteria})"
        " { filter { matches } } }",
        {"criteria": {"field": "grade", "in": [grade]}},
    )  # fmt: skip
    assert saved["saveFilter"]["filter"]["matches"] == 2


async def test_a_grade_that_nobody_has_is_an_error(server: TestServer) -> None:
    """A grade that no enrollment of the district has is an error that lists those it has, each with its path (D32)."""
    scope = {"grades": ["7", "13", "kg", "70", "", "7\0"]}
    errors = await refused(server, scope)
    assert [(code, path) for code, path, _ in errors] == [
        ("UNKNOWN_GRADE", ["scope", "grades", str(n)]) for n in (1, 2, 3, 4, 5)
    ]
    assert errors[0][2] == "The district has no grade '13'. It has 07, 10, 7, KG."


async def test_a_former_grade_is_one(server: TestServer, district: DistrictBuilder) -> None:
    """A grade whose enrollments have all ended is known: it selects nobody, which is another error (D32)."""
    await district.conn.execute("update enrollment set end_date = '2020-01-01' where grade = 'KG'")
    answer = await submitted(server, {"grades": ["KG"]})
    assert [error["code"] for error in answer["userErrors"]] == ["NOBODY_SELECTED"]


async def test_staff_have_no_school_year(server: TestServer) -> None:
    """A school year in CENSUS_STAFF is an error, as grades are; without it the same scope is fine (D12)."""
    (saved,) = (await server.run("{ savedFilters { id } }"))["savedFilters"]
    errors = await refused(server, {"filterId": saved["id"], "schoolYear": 2026}, "CENSUS_STAFF")
    assert [(code, path) for code, path, _ in errors] == [
        ("SCHOOL_YEAR_NOT_ALLOWED", ["scope", "schoolYear"])
    ]
    assert (await submitted(server, {"filterId": saved["id"]}, "CENSUS_STAFF"))["run"]["population"] == 1


@pytest.mark.parametrize("scope", [{"schoolYear": 2020}, {"schoolIds": []}, {"grades": []}])
async def test_nobody_selected_is_an_error_of_its_own(server: TestServer, scope: dict[str, Any]) -> None:
    """Whoever selects nobody hears of that, and of no cell: not of one switched off, nor of one out of reach (D32)."""
    cells = [*ON, {"contactPoint": "CELL_PHONE", "reason": "TEACHER", "set": "ON"}]
    answer = await submitted(server, scope, cells=cells)
    assert answer["run"] is None
    assert [(error["code"], error["path"]) for error in answer["userErrors"]] == [
        ("NOBODY_SELECTED", ["scope"])
    ]


async def test_an_error_of_the_options_leads_to_the_wrong_part_of_the_scope(server: TestServer) -> None:
    """api/README: `path` leads to the field of the response, `extensions.inputPath` to the wrong part of its input."""
    (error,) = (await options(server, {"grades": ["no grade"]}))["errors"]
    assert (error["path"], error["extensions"]["inputPath"]) == (["batchOptions"], ["scope", "grades", "0"])


async def test_the_options_say_that_nobody_is_selected(server: TestServer) -> None:
    """With nobody selected no cell says that nobody has a phone; with somebody the cells that nobody has do (D32)."""
    empty = (await options(server, {"schoolYear": 2020}))["data"]["batchOptions"]
    assert empty["population"] == 0
    assert not any(cell["enabled"] for cell in empty["cells"])
    off = "The district has switched this cell off."
    assert {cell["because"] for cell in empty["cells"]} == {"Nobody is selected. Widen the scope.", off}
    full = (await options(server, {}))["data"]["batchOptions"]
    because = {cell["contactPoint"]: cell["because"] for cell in full["cells"] if cell["reason"] == "GENERAL"}
    assert because["CELL_PHONE"] is None
    assert because["EMAIL"] == "Nobody selected has this contact point on record."


@pytest.mark.parametrize("nobody", ["null::bigint", "-1::bigint", "999999999::bigint"])
async def test_who_is_no_person_of_the_district_is_nobody(
    db: Pool, host: PluginHost, server: TestServer, nobody: str
) -> None:
    """A mode that gives null, or numbers of no person here, selects nobody, in the options too (D32)."""

    class Void:
        @hookimpl
        def batch_modes(self) -> list[BatchMode]:
            return [replace(host.modes["STUDENTS"].mode, code="VOID")]

        @hookimpl
        def select_population(self, mode: str, scope: object) -> Population | None:
            return Population(Sql(f"select {nobody} as person_id")) if mode == "VOID" else None

    async with serving(db, PluginHost([resource_folder("plugins")], given={"odd": Void()}), "maple") as odd:
        answer = await submitted(odd, {}, "VOID")
        asked = await options(odd, {}, "VOID")
    assert [error["code"] for error in answer["userErrors"]] == ["NOBODY_SELECTED"]
    assert asked["data"]["batchOptions"]["population"] == 0


@pytest.mark.slow
async def test_the_command_line_says_the_same(server: TestServer) -> None:
    """`gql-server batch` takes `7` for `07`, and prints what is wrong with a scope (D32)."""
    settings = {"URL": server.url, "TOKEN": server.token()}
    command = ("batch", "--mode", "STUDENTS", "--set", "CELL_PHONE:EMERGENCY=ON", "--dry-run")

    async def run(*scope: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(gql_server, *command, *scope, settings=settings)

    good = await run("--grade", "7", "--json")
    assert json.loads(good.stdout)["population"] == 2
    assert "no grade '13'" in refusal(await run("--grade", "13"))
