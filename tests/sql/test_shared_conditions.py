"""The conditions that statements share as functions: what they say, and that they are planned as if spelled out."""

import re
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest

from gql_server.domain.sql import numbered
from gql_server.domain.viewer import Role
from gql_server.hooks.people import active
from tests.golden.test_golden import HERE, OPERATIONS
from tests.support.graph import compile_document
from tests.support.statements import TEXTS, complete

DAY = date(2026, 11, 24)
NEAR = (None, *(DAY + timedelta(days=n) for n in (-1, 0, 1)))
FUNCTIONS = ("active_on", "is_unfinished", "is_worked", "needs_plan", "is_at_rest")
CALL = re.compile(rf"\b(?:{'|'.join(FUNCTIONS)})\(")
SPELLED_OUT = {
    "active_on": "(({0} is null or {0} <= {2}) and ({1} is null or {1} >= {2}))",
    "is_unfinished": "({0} in ('QUEUED', 'PLANNING', 'APPLYING'))",
    "is_worked": "({0} in ('PLANNING', 'APPLYING'))",
    "needs_plan": "({0} in ('QUEUED', 'PLANNING', 'PLANNED', 'APPLYING'))",
    "is_at_rest": "({0} not in ('QUEUED', 'PLANNING', 'APPLYING', 'REVERTING'))",
}


@pytest.mark.parametrize("start", NEAR)
async def test_active_includes_both_ends(prepared: Any, start: date | None) -> None:
    """Active is from the start to the end, both days included, and an open start or end sets no bound (D6)."""
    for end in NEAR:
        expected = (start is None or start <= DAY) and (end is None or end >= DAY)
        assert await prepared.fetchval("select active_on($1, $2, $3)", start, end, DAY) is expected


async def test_every_status_is_in_the_sets_that_its_name_promises(prepared: Any) -> None:
    """The sets of run states, spelled out for each state there is (D21): a new state needs a line here."""
    rows = await prepared.fetch(
        "select s::text, is_unfinished(s), is_worked(s), needs_plan(s), is_at_rest(s)"
        " from unnest(enum_range(null::batch_status)) s"
    )
    assert {row[0]: tuple(row)[1:] for row in rows} == {
        "QUEUED": (True, False, True, False),
        "PLANNING": (True, True, True, False),
        "PLANNED": (False, False, True, True),
        "APPLYING": (True, True, True, False),
        "DONE": (False, False, False, True),
        "FAILED": (False, False, False, True),
        "CANCELLED": (False, False, False, True),
        "REVERTING": (False, False, False, False),
        "REVERTED": (False, False, False, True),
    }


def spelled_out(text: str) -> str:
    """Return a statement with the shared conditions in the place of their calls."""
    for name, condition in SPELLED_OUT.items():
        text = re.sub(rf"\b{name}\(([^()]*)\)", lambda m: condition.format(*m[1].split(", ")), text)  # noqa: B023
    return text


async def plan_of(conn: Any, text: str) -> str:
    """Return the plan of a statement for any values of its parameters."""
    parameters = len(set(re.findall(r"\$\d+", text)))
    given = f"({', '.join(['null'] * parameters)})" if parameters else ""
    await conn.execute(f"prepare shared_conditions as {text}")
    rows = await conn.fetch(f"explain (verbose, costs off) execute shared_conditions{given}")
    await conn.execute("deallocate shared_conditions")
    return "\n".join(row[0] for row in rows)


@pytest.fixture
async def conn(prepared: Any) -> AsyncIterator[Any]:
    """A connection that plans by indexes, once for all values, as in a large district."""
    transaction = prepared.transaction()
    await transaction.start()
    await prepared.execute("set local plan_cache_mode = force_generic_plan")
    await prepared.execute("set local enable_seqscan = off")
    yield prepared
    await transaction.rollback()


@pytest.mark.parametrize(
    "name", [name for name in TEXTS if CALL.search(TEXTS[name]) and name != "read/viewer"]
)
async def test_a_statement_is_planned_as_if_its_conditions_were_spelled_out(conn: Any, name: str) -> None:
    """No call is left in the plan of any statement of sql/ that shares a condition, and the plan is the same."""
    text = complete(name)
    plan = await plan_of(conn, text)
    assert not CALL.search(plan)
    assert plan == await plan_of(conn, spelled_out(text))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("role", [Role.ADMIN, Role.GUARDIAN])
async def test_a_read_is_planned_as_if_its_conditions_were_spelled_out(
    conn: Any, name: str, role: Role
) -> None:
    """The same of whole reads, such as a page of people and the portal (D6, D27)."""
    document = (HERE / f"{name}.graphql").read_text(encoding="utf-8")
    given = {"id": "person_1", "search": "a", "after": "WyJhIiwgImIiLCAxXQ=="}
    text = numbered(compile_document(document, role, given).text)[0]
    plan = await plan_of(conn, text)
    assert CALL.search(text)
    assert not CALL.search(plan)
    assert plan == await plan_of(conn, spelled_out(text))


async def test_a_plugins_condition_is_planned_as_if_spelled_out(conn: Any) -> None:
    """What plug-ins select people by calls the same function, and keeps the index of the enrollments (D6, D12)."""
    text = numbered(
        f"select e.person_id from enrollment e where e.district_id = :district_id and {active('e')}"
    )[0]
    plan = await plan_of(conn, text)
    assert CALL.search(text)
    assert not CALL.search(plan)
    assert "Index Cond: (e.district_id = $1)" in plan
    assert plan == await plan_of(conn, spelled_out(text))


async def test_the_runs_of_the_queue_are_found_by_their_index(conn: Any) -> None:
    """A worker's look for work reads the few runs that wait or are worked, however many have ended (D21)."""
    assert "batch_run_unfinished" in await plan_of(conn, complete("batch/run/claim"))
