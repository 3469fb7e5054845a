"""What the statements of a plan make of many people, whatever the planner knows about them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import execute, fetchrow, fetchval, statement
from gql_server.domain.channels import ContactPointKind
from gql_server.services.changes import table_slots
from tests.support.builder import DistrictBuilder
from tests.support.log import BUCKET

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
    """However the planner reads them, every chunk has the next people by their ids, ascending, by buckets and by
    whether anything changes, each beside their own preferences and what becomes of them (D16)."""
    await planned.execute(settings or "select")
    current = statement("batch/plan/current").fill(**table_slots(False))
    ids = {"after": 0, "upto": 2**63 - 1}
    channels = statement("batch/plan/channels_to_write").fill(
        allowed=statement("batch/plan/allowed").having(household=False, **ids),
        current=current.having(contact_points=[ContactPointKind.CELL_PHONE], **ids),
    )
    channels = channels.having(household=False, size=SIZE)
    decided = statement("batch/decide").fill(channel=channels).having(keep_chosen=False)
    write = statement("batch/plan/write_targets").fill(decided=decided)
    key = {"district_id": district.id, "batch_run_id": 1, "household": False}
    row = await fetchrow(planned, write, **key, state="PLANNED", chunks=0)
    assert row is not None
    assert tuple(row.values()) == (PEOPLE // SIZE, PEOPLE, 0)
    everybody = {}
    for target in await planned.fetch("select * from batch_target"):
        ids = target["subject_ids"]
        assert ids == sorted(ids)
        assert {person // BUCKET for person in ids} == {target["bucket"]}
        assert (target["on_masks"], target["off_masks"], target["subjects"]) == ([1], [2], SIZE)
        assert target["channels"] == len(ids)
        was = [(person % 3, person % 2) if person % 5 else (0, 0) for person in ids]
        for name, place in (("was_on", 0), ("was_chosen", 1)):
            assert unpacked(target[name], ids) == [each[place] for each in was]
        on, off = [1 & ~each[0] for each in was], [2 & each[0] for each in was]
        assert (unpacked(target["turned_on"], ids), unpacked(target["turned_off"], ids)) == (on, off)
        unchosen = [(on[n] | off[n]) & was[n][1] for n in range(len(ids))]
        assert unpacked(target["unchosen"], ids) == unchosen
        assert (target["leave"], target["chosen"]) == (None, None)
        assert {bool(on[n] | off[n]) for n in range(len(ids))} == {target["changes"]}
        places = await planned.fetch(
            "select p.ctid from unnest($1::bigint[]) with ordinality as s (person_id, n)"
            " left join preference p using (person_id) order by s.n",
            ids,
        )
        assert target["places"] == [row["ctid"] for row in places]
        everybody.setdefault(target["chunk"], []).extend(ids)
    whole = [row["person_id"] for row in await planned.fetch("select person_id from person order by 1")]
    assert [person for chunk in sorted(everybody) for person in sorted(everybody[chunk])] == whole


def unpacked(masks: list[int] | None, ids: list[int]) -> list[int]:
    """Return a mask for each of the ids: none at all are 0, and one is the mask of all."""
    return [0] * len(ids) if masks is None else masks * len(ids) if len(masks) == 1 else masks


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
