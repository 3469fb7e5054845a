"""What the statements of a plan make of many people, whatever the planner knows about them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import execute, fetchrow, fetchval, statement
from gql_server.domain.channels import ContactPointKind
from gql_server.services.batch.plan import EVERYBODY
from gql_server.services.changes import table_slots
from tests.support.builder import DistrictBuilder

PEOPLE, SIZE = 3_000, 1_000
FILL = (
    "insert into person (district_id, first_name, last_name) select $1, 'P', n::text from generate_series(1, $2) n",
    "insert into preference (district_id, person_id, contact_point, method, reasons_on, reasons_chosen)"
    " select district_id, person_id, 'CELL_PHONE', 'VOICE', person_id % 3, person_id % 2"
    " from person where district_id = $1 and person_id % 5 > 0 and $2 > 0",
)
CHANNELS = """
insert into all_channels (household, subject_id, contact_point, method, address, on_mask, off_mask)
select false, person_id, 'CELL_PHONE', 'VOICE', '1', 1, 2 from person where district_id = $1
order by hashint8(person_id)
"""


@pytest.fixture
async def planned(db: Pool, district: DistrictBuilder) -> AsyncIterator[Any]:
    """A connection with the temporary tables of a plan, which names the cell phone of everybody, in no order."""
    for text in FILL:
        await district.conn.execute(text, district.id, PEOPLE)
    async with db.transaction() as conn:
        await execute(conn, "batch/plan/relations")
        await conn.execute(CHANNELS, district.id)
        yield conn


@pytest.mark.parametrize("settings", ["", "set local enable_sort = off", "set local enable_hashjoin = off"])
async def test_targets_are_in_key_order_with_what_the_plan_read(
    planned: Any, district: DistrictBuilder, settings: str
) -> None:
    """However the planner reads them, every chunk has the next people by their ids, ascending, each beside their own
    preferences, and those without a row apart (D16)."""
    await planned.execute(settings or "select")
    current = statement("batch/plan/current").fill(**table_slots(False))
    write = statement("batch/plan/write_targets").fill(
        allowed=statement("batch/plan/allowed").having(**EVERYBODY),
        current=current.having(contact_points=[ContactPointKind.CELL_PHONE], **EVERYBODY),
    )
    row = await fetchrow(planned, write, district_id=district.id, batch_run_id=1, size=SIZE, chunks=0)
    assert row is not None
    assert tuple(row.values()) == (PEOPLE // SIZE, PEOPLE, 0)
    targets = await planned.fetch("select * from batch_target order by chunk, missing")
    assert [(row["chunk"], row["missing"]) for row in targets] == [
        (n, missing) for n in range(1, PEOPLE // SIZE + 1) for missing in (False, True)
    ]
    everybody = []
    for target in targets:
        ids = target["subject_ids"]
        assert ids == sorted(ids)
        assert (target["on_masks"], target["off_masks"], target["subjects"]) == ([1], [2], SIZE)
        assert target["missing"] == (ids[0] % 5 == 0)
        expected = [(0, 0) if target["missing"] else (person % 3, person % 2) for person in ids]
        for name, place in (("was_on", 0), ("was_chosen", 1)):
            assert target[name] == ([0] if target["missing"] else [each[place] for each in expected])
        places = await planned.fetch(
            "select p.ctid from unnest($1::bigint[]) with ordinality as s (person_id, n)"
            " left join preference p using (person_id) order by s.n",
            ids,
        )
        assert target["places"] == [row["ctid"] for row in places]
        everybody += ids
    whole = [row["person_id"] for row in await planned.fetch("select person_id from person order by 1")]
    assert sorted(everybody) == whole
    chunks = [
        sorted(a["subject_ids"] + b["subject_ids"]) for a, b in zip(targets[::2], targets[1::2], strict=True)
    ]
    assert [person for chunk in chunks for person in chunk] == whole


@pytest.mark.parametrize("percent", [100.0, 10.0])
async def test_ranges_divide_the_candidates(planned: Any, district: DistrictBuilder, percent: float) -> None:
    """The ends of the ranges are in order, and each range has about as many candidates as every other."""
    ends = await fetchval(planned, "batch/plan/range_ends", ranges=3, percent=percent)
    assert ends == sorted(ends)
    sizes = await planned.fetch(
        "select count(*) from all_channels group by width_bucket(subject_id, $1::bigint[])", ends
    )
    assert len(sizes) == 3
    assert all(PEOPLE / 6 < row["count"] < PEOPLE / 2 for row in sizes)
