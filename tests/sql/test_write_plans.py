"""What PostgreSQL makes of the statements of a single write: one plan for any values, and look-ups by key alone."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.db.statements import bind, statement
from gql_server.domain.channels import Method
from gql_server.domain.sql import Sql
from gql_server.hooks import Cell, Context, Role, RuleRequest, Setting
from gql_server.hooks.host import PluginHost
from gql_server.services.changes import log_slots
from gql_server.services.rules.page import page_denials
from tests.support.batch import CELL
from tests.support.builder import DistrictBuilder

pytestmark = pytest.mark.slow

SIZES = (10, 100_000)
TABLES = ("person", "contact_point", "preference", "opt_out", "change", "change_set", "district_assignment")
FILL = (
    "insert into person (district_id, first_name, last_name) select $1, 'P', n::text from generate_series(1, $2) n",
    "insert into contact_point select district_id, person_id, 'CELL_PHONE', last_name from person",
    "insert into preference select district_id, person_id, 'CELL_PHONE', 'VOICE' from person",
    "insert into opt_out (district_id, address, method, source) select $1, -n, 'VOICE', 'IMPORT' from"
    " generate_series(1, $2) n",
    "insert into district_assignment (district_id, person_id) select district_id, person_id from person",
)
CELLS = {
    "contact_points": ["CELL_PHONE"],
    "methods": ["VOICE"],
    "on_masks": [8],
    "off_masks": [0],
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that the driver has prepared, with values that it can be run with."""

    text: str
    values: list[object]


def write(district: DistrictBuilder, person: int, denials: Sql | None = None) -> Prepared:
    """Return the statement that writes one person's preferences, unless something is denied."""
    slots = log_slots(household=False)
    target = statement("preference/cells").fill(**slots).having(subject_id=person, **CELLS)
    if denials is not None:
        target = statement("preference/allowed_cells").fill(cells=target, page_denials=denials)
    whole = statement("preference/write").fill(**slots, target=target)
    who = {"source": "ADMIN", "actor": "ADMIN", "mark_chosen": False}
    return Prepared(*bind(whole, district_id=district.id, today=district.district.today(), **who))


def denied(host: PluginHost, district: DistrictBuilder, person: int) -> Sql:
    """Return what the built-in rules deny of one person's channels, STAFF among their reasons."""
    request = RuleRequest(
        context=Context.WRITE,
        district=district.district.code,
        time_zone="UTC",
        role=Role.ADMIN,
        mode=None,
        cells=tuple(Cell(CELL, Method.VOICE, reason, Setting.ON) for reason in ("STAFF", "GENERAL")),
    )
    rules = dict(enumerate(host.rules(request), start=1))
    addresses = statement("preference/person_addresses").having(subject_id=person)
    page = statement("preference/page").fill(addresses=addresses)
    return page_denials(page.having(household=False, subject_id=person, **CELLS), rules)


async def planned_once(conn: Connection, prepared: Prepared) -> dict[str, Any]:
    """Run a statement until PostgreSQL may keep one plan, require that it does, and return that plan."""
    for _ in range(7):
        await conn.fetch(prepared.text, *prepared.values)
    name, generic = await conn.fetchrow(  # type: ignore[misc]
        "select name, generic_plans from pg_prepared_statements where statement = $1", prepared.text
    )
    assert generic > 0, "it is planned anew for each call"
    given = ", ".join(map(_literal, prepared.values))
    explained = await conn.fetchval(f'explain (format json) execute "{name}" ({given})')
    plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
    return plan


def _literal(value: object) -> str:
    if value is None or isinstance(value, bool | int):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list):
        return "'{" + ",".join(map(str, value)) + "}'"
    return f"'{value}'"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("statistics", ["none", "of an empty district", "of today"])
async def test_a_single_write_is_planned_once(
    db: Pool, host: PluginHost, district: DistrictBuilder, size: int, statistics: str
) -> None:
    """PostgreSQL keeps one plan for the write, for the rules, and for both in one statement. It finds rows by their
    keys, whether the statistics are true, old or missing: nothing that grows with the district is read as a whole
    (D10, D22, D28)."""
    async with db.acquire() as conn, conn.transaction():
        await conn.execute("set local session_replication_role = replica")  # without foreign keys: faster
        if statistics == "of an empty district":
            await conn.execute(f"analyze {', '.join(TABLES)}")
        for text in FILL:
            await conn.execute(text, *[district.id, size][: text.count("$")])
        if statistics == "of today":
            await conn.execute(f"analyze {', '.join(TABLES)}")
        person = await conn.fetchval("select min(person_id) from person")
        denials = denied(host, district, person)
        asked = Prepared(*bind(denials, district_id=district.id, today=district.district.today()))
        for prepared in (asked, write(district, person), write(district, person, denials)):
            found = list(nodes(await planned_once(conn, prepared)))
            scanned = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
            if size > SIZES[0]:
                # The rule of STAFF hashes the assignments of today, which only staff have.
                assert scanned <= {"district", "district_assignment"}


async def test_the_planner_sees_how_long_a_page_of_recipients_is(db: Pool, district: DistrictBuilder) -> None:
    """A page that is given with its addresses may be long: it is planned for its own length (D10)."""
    page = statement("rules/page").having(
        households=[False] * 5_000, subject_ids=list(range(5_000)), contact_points=["CELL_PHONE"] * 5_000,
        methods=["VOICE"] * 5_000, addresses=["1"] * 5_000, on_masks=[1] * 5_000, off_masks=[0] * 5_000,
    )  # fmt: skip
    text, values = bind(Sql("explain (format json) {page}").fill(page=page))
    async with db.acquire() as conn:
        plan = json.loads(await conn.fetchval(text, *values))[0]["Plan"]
    assert plan["Plan Rows"] == 5_000
