"""What PostgreSQL makes of the statement that looks for contact points that nobody selected has."""

import json
from typing import Any

from gql_server.db.statements import bind, statement
from gql_server.domain.sql import Sql
from tests.support.builder import DistrictBuilder

PEOPLE = 500
SELECTED = Sql(
    "select r.contact_id as person_id from relationship r where r.district_id = :district_id and r.student_id in"
    " (select e.person_id from enrollment e where e.district_id = :district_id)"
)
FILL = (
    "insert into person (district_id, first_name, last_name) select $1, 'P', n::text from generate_series(1, $2) n",
    "insert into enrollment (district_id, person_id, school_id, school_year, grade)"
    " select p.district_id, p.person_id, s.school_id, 2026, '7' from person p, school s"
    " where p.district_id = $1 and s.district_id = $1 and $2 > 0",
    "insert into relationship (district_id, student_id, contact_id, kind, guardian, messenger)"
    " select s.district_id, s.person_id, c.person_id, 'Mother', true, true from person s"
    " join person c on c.district_id = s.district_id and c.person_id % $2 = (s.person_id + 1) % $2"
    " where s.district_id = $1",
    "insert into contact_point (district_id, person_id, kind, value)"
    " select district_id, person_id, 'CELL_PHONE', '1' from person where district_id = $1 and $2 > 0",
)


def reads(plan: dict[str, Any]) -> float:
    """Return how many rows of `relationship` the nodes of a plan read, in all their loops."""
    own = plan["Actual Rows"] * plan["Actual Loops"] if plan.get("Relation Name") == "relationship" else 0
    return float(own + sum(reads(child) for child in plan.get("Plans", ())))


async def test_the_people_are_read_once_whatever_the_statistics_say(district: DistrictBuilder) -> None:
    """With statistics from before the district was filled, the people selected are not read anew for each of them, and
    somebody who has the contact point ends the search (D15)."""
    await district.school()
    for text in ("analyze", *FILL):
        await district.conn.execute(text, *((district.id, PEOPLE) if text in FILL else ()))
    unreachable = statement("batch/plan/unreachable").fill(population=SELECTED)
    for kind, missing in (("CELL_PHONE", False), ("HOME_PHONE", True), ("HOUSEHOLD_PHONE", True)):
        text, values = bind(unreachable, district_id=district.id, today=None, contact_points=[kind])
        assert bool(await district.conn.fetch(text, *values)) is missing
        explained = await district.conn.fetchval(f"explain (analyze, format json) {text}", *values)
        assert reads(json.loads(explained)[0]["Plan"]) <= (PEOPLE if missing else 1)
