"""A query is one statement, whatever its depth and however many people it returns.

The driver asks a connection once for each type that it meets; so every test asks twice and counts the second time.
"""

from pathlib import Path

import pytest

from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from gql_server.reads.links import ReadLimits
from tests.support.builder import DistrictBuilder
from tests.support.counting import CountingDatabase
from tests.support.graph import GraphClient
from tests.support.server import serving

GOLDEN = Path(__file__).parent.parent / "golden"
DEEP = """
{ people { edges { node {
    students { student { contacts { contact { households { household { name } } } } } }
    history { edges { node { turnedOn { reason } person { id } } } }
} } } }
"""
WIDE = """
{ viewer { role person { id } whyNot }
  schools { name } contactReasons { code } batchModes { code } plugins { name } headRevision
  households { edges { node { phone preferences { on } members { active person { active optOuts { address } } } } } }
  batchRuns { edges { node { status results { set } exclusions { edges { node { because } } } } } }
  savedFilters { name criteria }
  batchOptions(mode: STUDENTS, scope: {}) { population cells { enabled } } }
""".replace("STUDENTS", '"STUDENTS"')
QUERIES = {path.stem: path.read_text(encoding="utf-8") for path in GOLDEN.glob("*.graphql")}
QUERIES |= {"deep": DEEP, "wide": WIDE}


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("families", [1, 12])
async def test_a_query_is_one_statement(
    db: Pool, host: PluginHost, district: DistrictBuilder, name: str, families: int
) -> None:
    """The number of statements does not depend on the document or on the data."""
    school = await district.school()
    for n in range(families):
        student = await district.student(school, f"Sam Lane{n}")
        parents = [await district.person(f"Ada Lane{n}"), await district.person(f"Bea Lane{n}")]
        for parent in parents:
            await district.relate(student, parent)
        await district.household(student, *parents, phone=f"555-01{n:02}")
    counting = CountingDatabase(db)
    client = GraphClient(counting, host)
    client.limits = ReadLimits(max_price=10_000_000)
    given = {"id": "person_1", "search": "s"}
    await client.query(client.context(district.district), QUERIES[name], given)
    counting.statements.clear()
    data = await client.query(client.context(district.district), QUERIES[name], given)
    assert data
    assert len(counting.statements) == 1


async def test_matches_need_the_criteria_first(db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
    """`matches` reads the filters' criteria beforehand: two statements, however many filters there are."""
    for n in range(5):
        criteria = f'{{"field": "grade", "is": "{n:02}"}}'
        await district.insert(
            "saved_filter", "saved_filter_id", name=f"{n}", kind="STUDENT", criteria=criteria
        )
    counting = CountingDatabase(db)
    client = GraphClient(counting, host)
    await client.query(client.context(district.district), "{ savedFilters { name matches } }")
    counting.statements.clear()
    data = await client.query(client.context(district.district), "{ savedFilters { name matches } }")
    assert [row["matches"] for row in data["savedFilters"]] == [0] * 5
    assert len(counting.statements) == 2


@pytest.mark.parametrize("if_revision", [None, "1000"])
async def test_a_single_write_is_few_statements(
    db: Pool, host: PluginHost, district: DistrictBuilder, if_revision: str | None
) -> None:
    """One statement asks the product's own rules and writes the preferences, another reads the answer; `ifRevision` is
    compared in one more (D10, D19, D22, D28)."""
    person = await district.person(cell_phone="1")
    home = await district.household(person, phone="2")
    counting = CountingDatabase(db)
    async with serving(counting, host, "maple") as server:
        for name, key, number, point in (
            ("setPreferences", "personId", f"person_{person}", "CELL_PHONE"),
            ("setHouseholdPreferences", "householdId", f"household_{home}", "HOUSEHOLD_PHONE"),
        ):
            write = f"""mutation write($input: {name[0].upper()}{name[1:]}Input!) {{
              {name}(input: $input) {{ {key[:-2]} {{ preferences {{ method on }} }} userErrors {{ code }} }} }}"""
            for on in (True, False, True):
                cell = {"contactPoint": point, "method": "VOICE", "reason": "GENERAL", "on": on}
                given = {key: number, "cells": [cell], "ifRevision": if_revision}
                counting.statements.clear()
                written = (await server.run(write, {"input": given}))[name]
                assert written["userErrors"] == []
                assert any(each["on"] for each in written[key[:-2]]["preferences"]) == on
            assert len(_of_requests(counting)) == (2 if if_revision is None else 3)


def _of_requests(counting: CountingDatabase) -> list[str]:
    """Return the statements that were sent for requests: not the batch worker's, nor the driver's about types, which it
    sends once on each connection."""
    own = [text for text in counting.statements if "'jit'" not in text and "typeinfo" not in text]
    return [text for text in own if "batch_run" not in text]
