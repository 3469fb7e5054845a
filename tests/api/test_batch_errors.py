"""What a batch refuses, by code: all at once, and with nothing written (D3, D11-D15)."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.domain.batch import Cell, Setting
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import Forbidden, Rejected
from gql_server.hooks import (
    Candidate,
    Deny,
    DistrictReader,
    Population,
    Rule,
    RunSummary,
    Sql,
    Verdict,
    hookimpl,
)
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.request import BatchRequest, ScopeInput
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, EMAIL, HOUSEHOLD, OFF, ON, WORK, Batches, admin, cells, working
from tests.support.builder import DistrictBuilder

pytestmark = pytest.mark.slow

EMERGENCY = Cell(CELL, "EMERGENCY", ON)


@pytest.fixture
async def batches(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[Batches]:
    """Batches of a district with one student, who has a cell phone."""
    await district.student(await district.school(), cell_phone="1")
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        yield Batches(db, host, district, worker)


async def refused(batches: Batches, *named: Cell, **request: Any) -> dict[str, tuple[str, ...] | None]:
    """Return the codes and paths of a refused batch; no run may be recorded."""
    errors = await batches.errors(*named, **request)
    assert await batches.district.conn.fetchval("select count(*) from batch_run") == 0
    return {error.code: error.path for error in errors}


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_only_administrators_run_batches(batches: Batches, role: Role) -> None:
    """No other role may set preferences for many people."""
    viewer = Viewer(batches.district.district, role, "x")
    with pytest.raises(Forbidden):
        await batches.service.submit(viewer, BatchRequest("STUDENTS", ScopeInput(), (EMERGENCY,)), 0)


async def test_unknown_modes_and_reasons(batches: Batches) -> None:
    """A mode and a reason that no plug-in gives are named in one answer (D3, D11)."""
    named = (EMERGENCY, Cell(CELL, "emergency", ON))
    assert await refused(batches, *named, mode="students") == {
        "UNKNOWN_MODE": ("mode",),
        "UNKNOWN_REASON": ("cells", "1", "reason"),
    }


async def test_a_cell_has_one_setting(batches: Batches) -> None:
    """A cell named with two settings is an error, NO_CHANGE being one; named twice alike it is not (D13)."""
    assert await refused(batches, EMERGENCY, Cell(CELL, "EMERGENCY", OFF)) == {
        "CONFLICTING_CELLS": ("cells", "1")
    }
    unset = Cell(CELL, "EMERGENCY", Setting.NO_CHANGE)
    assert await refused(batches, EMERGENCY, unset) == {"CONFLICTING_CELLS": ("cells", "1")}
    run = await batches.run(EMERGENCY, EMERGENCY)
    assert (await batches.counts(run, CELL, "EMERGENCY"))["updated"] == 1


async def test_some_cell_must_be_set(batches: Batches) -> None:
    """No cell, or NO_CHANGE alone, is an error (D13)."""
    assert await refused(batches) == {"NO_CELLS": ("cells",)}
    assert await refused(batches, Cell(CELL, "EMERGENCY", Setting.NO_CHANGE)) == {"NO_CELLS": ("cells",)}


@pytest.mark.parametrize("kind", [IdKind.SCHOOL, IdKind.SAVED_FILTER])
async def test_ids_do_not_tell_what_exists(
    batches: Batches, db: Pool, host: PluginHost, kind: IdKind
) -> None:
    """Malformed ids, another district's and unknown ones get one and the same answer (D12)."""
    async with db.acquire() as conn:
        other = await DistrictBuilder.create(conn, host, "birch")
        school = await other.school("Theirs")
        columns = {"name": "Theirs", "kind": "STUDENT", "criteria": '{"all": []}'}
        saved = await other.insert("saved_filter", "saved_filter_id", **columns)
    foreign = encode_id(kind, school if kind is IdKind.SCHOOL else saved)
    answers = set()
    for text in (
        foreign,
        encode_id(kind, 999_999),
        "",
        "x",
        f"{kind}_-1",
        f"{kind}_01",
        encode_id(kind, 2**63),
    ):
        scope = ScopeInput(school_ids=(text,)) if kind is IdKind.SCHOOL else ScopeInput(filter_id=text)
        (error,) = await batches.errors(EMERGENCY, scope=scope)
        answers.add((error.code, error.path, error.message.replace(repr(text), "")))
    assert len(answers) == 1
    assert answers.pop()[0] == ("UNKNOWN_SCHOOL" if kind is IdKind.SCHOOL else "UNKNOWN_FILTER")


async def test_each_unknown_school_has_its_path(batches: Batches) -> None:
    """Every school at fault is named by its place in the list."""
    errors = await batches.errors(EMERGENCY, scope=ScopeInput(school_ids=("x", "school_1", "y")))
    paths = [error.path for error in errors if error.code == "UNKNOWN_SCHOOL"]
    assert ("scope", "schoolIds", "0") in paths
    assert ("scope", "schoolIds", "2") in paths


async def test_filters_fit_their_modes(batches: Batches) -> None:
    """CENSUS_STAFF needs a census filter, the student modes take only student filters, and grades are an error
    for staff (D12)."""
    census = await batches.save_filter("CENSUS", '{"field": "activeEnrollment", "is": true}')
    student = await batches.save_filter("STUDENT", '{"field": "grade", "is": "09"}')
    path = ("scope", "filterId")
    assert await refused(batches, EMERGENCY, mode="CENSUS_STAFF") == {"FILTER_REQUIRED": path}
    for mode, given in (("STUDENTS", census), ("STUDENT_CONTACTS", census), ("CENSUS_STAFF", student)):
        answer = await refused(batches, EMERGENCY, mode=mode, scope=ScopeInput(filter_id=given))
        assert answer == {"WRONG_FILTER_KIND": path}
    scope = ScopeInput(grades=("09",), school_ids=("x",))
    assert await refused(batches, EMERGENCY, mode="CENSUS_STAFF", scope=scope) == {
        "GRADES_NOT_ALLOWED": ("scope", "grades"),
        "FILTER_REQUIRED": path,
        "UNKNOWN_SCHOOL": ("scope", "schoolIds", "0"),
    }


@pytest.mark.parametrize("seconds", [-1, 61])
async def test_the_wait_has_limits(batches: Batches, seconds: int) -> None:
    """waitSeconds is from 0 to 60."""
    with pytest.raises(Rejected) as caught:
        await batches.run(EMERGENCY, wait=seconds)
    assert [error.code for error in caught.value.errors] == ["WAIT_SECONDS_OUT_OF_RANGE"]


async def test_cells_switched_off_are_errors(batches: Batches) -> None:
    """TEACHER is switched off on phones in a new district; naming it says which cell and why (D15)."""
    (error,) = await batches.errors(EMERGENCY, Cell(CELL, "TEACHER", OFF))
    assert (error.code, error.path) == ("CELL_NOT_ENABLED", ("cells", "1"))
    assert "CELL_PHONE × TEACHER" in error.message
    assert "switched it off" in error.message


async def test_cells_that_reach_nobody_are_errors(batches: Batches, district: DistrictBuilder) -> None:
    """A contact point that nobody selected has on record is not enabled, though others have it (D15)."""
    await district.person("Elsewhere", work_phone="2", email="e@x.example")
    await district.household(await district.person("Else"), phone="3")
    named = [
        *cells(HOUSEHOLD, "GENERAL"),
        EMERGENCY,
        *cells(WORK, "GENERAL", "STAFF"),
        *cells(EMAIL, "GENERAL"),
    ]
    errors = await batches.errors(*named)
    assert {error.code for error in errors} == {"CELL_NOT_ENABLED"}
    assert [error.path for error in errors] == [("cells", str(n)) for n in (0, 2, 3, 4)]
    assert "a work phone on record" in errors[1].message


async def test_a_household_phone_counts_only_through_active_members(
    batches: Batches, district: DistrictBuilder
) -> None:
    """A household whose selected members are all inactive enables nothing (D15, D17)."""
    student = await district.conn.fetchval("select person_id from person limit 1")
    home = await district.household(phone="2")
    await district.join(home, student, (None, district.district.today() - timedelta(days=1)))
    assert await batches.codes(*cells(HOUSEHOLD, "GENERAL")) == ["CELL_NOT_ENABLED"]


async def test_an_empty_list_selects_nobody(batches: Batches) -> None:
    """An empty list of schools or grades is not the same as none given (D12, D32)."""
    for scope in (ScopeInput(school_ids=()), ScopeInput(grades=())):
        assert await refused(batches, EMERGENCY, scope=scope) == {"NOBODY_SELECTED": ("scope",)}


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [
        (
            "insert into disabled_cell select district_id, 'CELL_PHONE', 'EMERGENCY' from district",
            "switched it off",
        ),
        ("delete from contact_point", "has a cell phone on record"),
        ("delete from enrollment", "select nobody"),
    ],
)
async def test_the_plan_looks_again(
    db: Pool, host: PluginHost, district: DistrictBuilder, meanwhile: str, words: str
) -> None:
    """What ceased to hold before the plan fails the run in words; nothing is written (D15, D32)."""
    student = await district.student(await district.school(), cell_phone="1")
    batches = Batches(db, host, district, BatchWorker(db, host, poll_seconds=0.05))
    scope = ScopeInput(filter_id=await batches.save_filter("STUDENT", '{"field": "grade", "is": "09"}'))
    run = await batches.run(EMERGENCY, scope=scope, wait=0)
    await district.conn.execute(meanwhile)
    async with working(batches.worker):
        row = await batches.ended(run)
    assert row["status"] == "FAILED"
    assert words in row["errors"][0]
    assert await district.on(student, CELL) == []


async def never() -> None:
    await asyncio.Event().wait()


class Plugin:
    """A plug-in made of what a test gives it."""

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule, self.told = rule, list[RunSummary]()

    @hookimpl
    def eligibility_rules(self, request: object) -> list[Rule]:
        return [self.rule] if self.rule else []

    @hookimpl
    def run_finished(self, run: RunSummary) -> None:
        self.told.append(run)


async def run_with(
    db: Pool, district: DistrictBuilder, host: PluginHost, *named: Cell, mode: str = "STUDENTS"
) -> dict[str, Any]:
    """Run a batch under a host of its own and return the run's row. A check has little time."""
    async with working(BatchWorker(db, host, poll_seconds=0.05, check_seconds=0.5)) as worker:
        batches = Batches(db, host, district, worker)
        return await batches.row(await batches.run(*named, mode=mode))


def host_with(host: PluginHost, plugin: object) -> PluginHost:
    return PluginHost([resource_folder("plugins")], given={"odd": plugin})


async def raising(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
    raise RuntimeError(f"{candidates[0].address} is wrong")


async def silent(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
    return []


async def wordy(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Any]:
    return ["no"] * len(candidates)


async def strange(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
    return [Deny(reasons=frozenset({"NOPE"}))] * len(candidates)


async def writing(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
    await reader.fetch("delete from contact_point where district_id = :district_id returning 1")
    return [Verdict.ALLOW] * len(candidates)


async def stalling(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
    await never()
    return []


STRAY = (
    "select false as household, 0::bigint as subject_id, contact_point, method, -1::bigint as reasons"
    " from candidate"
)


@pytest.mark.parametrize(
    "rule",
    [
        *(Rule("r", "No.", check=check) for check in (raising, silent, wordy, strange, writing, stalling)),
        Rule("r", "No.", deny_select=Sql("select * from no_such_table")),
        Rule("r", "No.", deny_select=Sql(STRAY)),
        Rule.where("r", "No.", Sql("1 / (length(c.address) - 1) > 0")),
    ],
    ids=[
        "raises",
        "leaves out",
        "no verdict",
        "unknown reason",
        "writes",
        "stalls",
        "no table",
        "strays",
        "errs",
    ],
)
async def test_a_rule_at_fault_fails_the_run(
    db: Pool, host: PluginHost, district: DistrictBuilder, rule: Rule
) -> None:
    """The run ends FAILED and names the plug-in; nothing of SQL or of a person is told, and nothing is written."""
    student = await district.student(await district.school(), cell_phone="1")
    plugin = Plugin(rule)
    row = await run_with(db, district, host_with(host, plugin), EMERGENCY)
    assert row["status"] == "FAILED"
    assert row["errors"][0].startswith("Plug-in 'odd': rule 'r' ")
    assert "select" not in row["errors"][0]
    assert "1 is wrong" not in row["errors"][0]
    assert await district.on(student, CELL) == []
    for table in ("batch_exclusion", "batch_rule", "batch_target", "change"):
        assert await district.conn.fetchval(f"select count(*) from {table}") == 0
    assert [told.status for told in plugin.told] == ["FAILED"]


async def test_a_check_is_asked_in_chunks(
    db: Pool, host: PluginHost, district: DistrictBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check gets every candidate once, with the value on record, may read, and denies with words of its own."""
    monkeypatch.setattr("gql_server.services.rules.relation.CHECK_CHUNK", 2)
    school = await district.school()
    people = [await district.student(school, cell_phone=str(n)) for n in range(5)]
    asked: list[Candidate] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict | Deny]:
        rows: Sequence[Mapping[str, object]] = await reader.fetch(
            "select person_id from contact_point where district_id = :district_id and value = :value",
            value="3",
        )
        asked.extend(candidates)
        odd = rows[0]["person_id"]
        deny = Deny(reasons=frozenset({"GENERAL"}), because="Three is odd.")
        return [deny if candidate.person_id == odd else Verdict.ALLOW for candidate in candidates]

    row = await run_with(
        db,
        district,
        host_with(host, Plugin(Rule("r", "No.", check=check))),
        *cells(CELL, "EMERGENCY", "GENERAL"),
    )
    assert row["status"] == "DONE", row["errors"]
    assert [(c.person_id, c.address) for c in asked] == [(p, str(n)) for n, p in enumerate(people)]
    assert await district.on(people[3], CELL) == ["EMERGENCY"]
    assert await district.on(people[4], CELL) == ["EMERGENCY", "GENERAL"]
    assert await district.conn.fetchval("select because from batch_exclusion") == "Three is odd."


async def test_a_person_whom_a_mode_selects_twice_counts_once(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A mode may give a person more than once; they are one of the population all the same (D11)."""
    student = await district.student(await district.school(), cell_phone="1")

    class Twice:
        @hookimpl
        def batch_modes(self) -> list[Any]:
            return [replace(host.modes["STUDENTS"].mode, code="TWICE")]

        @hookimpl
        def select_population(self, mode: str, scope: object) -> Population | None:
            people = "select person_id from person where district_id = :district_id"
            return Population(Sql(f"{people} union all {people}")) if mode == "TWICE" else None

    row = await run_with(db, district, host_with(host, Twice()), EMERGENCY, mode="TWICE")
    assert (row["status"], row["population"], row["total"]) == ("DONE", 1, 1)
    assert await district.on(student, CELL) == ["EMERGENCY"]


async def test_the_administrator_sees_no_secret_of_a_failing_mode(
    batches: Batches, db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A mode whose SQL fails is named when the batch is submitted; admin and viewer are told no SQL (D11)."""

    class Broken:
        @hookimpl
        def batch_modes(self) -> list[Any]:
            return [replace(host.modes["STUDENTS"].mode, code="BROKEN")]

        @hookimpl
        def select_population(self, mode: str, scope: object) -> Population | None:
            return Population(Sql("select person_id from secret")) if mode == "BROKEN" else None

    broken = host_with(host, Broken())
    service = Batches(db, broken, district, batches.worker).service
    with pytest.raises(Exception, match="Plug-in 'odd': the selection of the mode 'BROKEN' failed") as caught:
        await service.submit(admin(district), BatchRequest("BROKEN", ScopeInput(), (EMERGENCY,)), 0)
    assert "secret" not in str(caught.value)
