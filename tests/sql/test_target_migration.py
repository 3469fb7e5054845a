"""A run that was being applied when the database was migrated goes on: its old targets are decided under locks."""

from collections.abc import AsyncIterator

import pytest

from gql_server.db.migrations import migrate, migrations
from gql_server.db.pool import Pool, open_pool
from gql_server.db.protocols import Connection
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, OFF, Batches, actual, cells, working
from tests.support.builder import DistrictBuilder

FORMER = """
create table batch_target (district_id integer, batch_run_id bigint, chunk integer, household boolean,
  contact_point contact_point_kind, method method, on_mask bigint, off_mask bigint, subjects integer,
  subject_ids bigint[],
  skip_if_chosen bigint, mark_as_chosen bigint, constraint batch_target_pkey primary key
  (district_id, batch_run_id, chunk, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen))
"""
"""The table as it was before migration 0011."""


@pytest.fixture
async def conn(db: Pool) -> AsyncIterator[Connection]:
    """A connection to a database whose targets have the former shape."""
    async with db.acquire() as conn:
        await conn.execute("drop table batch_target; drop type target_state")
        await conn.execute(FORMER)
        await conn.execute("delete from migration where name = '0011_targets'")
        yield conn


async def test_a_run_goes_on_with_the_targets_of_an_older_release(
    conn: Connection, db: Pool, dsn: str, host: PluginHost
) -> None:
    """Blocks of one channel with masks of their own become one target; the run ends as it was planned, and what people
    chose after the plan stays where it was to be skipped (D18, D28)."""
    district = await DistrictBuilder.create(conn, host)
    school = await district.school()
    people = [await district.student(school, cell_phone=str(n)) for n in range(4)]
    batches = Batches(db, host, district, BatchWorker(db, host, poll_seconds=0.05))
    run = await batches.run(*cells(CELL, "GENERAL"), *cells(CELL, "PRIORITY", to=OFF), wait=0)
    general, priority = (district.bits.mask((reason,)) for reason in ("GENERAL", "PRIORITY"))
    await district.prefer(people[1], CELL, on=("PRIORITY",))
    await district.prefer(people[3], CELL, chosen=("GENERAL",))
    for on, off, skip, subjects in (
        (general, 0, 0, [people[2], people[0]]),
        (general, priority, general, [people[1], people[3]]),
    ):
        await district.insert(
            "batch_target", batch_run_id=run, chunk=1, household=False, contact_point=CELL, method="VOICE",
            on_mask=on, off_mask=off, skip_if_chosen=skip, mark_as_chosen=0, subjects=4, subject_ids=subjects,
        )  # fmt: skip
    await conn.execute(
        "update batch_run set status = 'APPLYING', total = 4, population = 4, today = current_date"
    )
    assert await migrate(conn) == [migrations()[10].name]
    rows = await conn.fetch("select subject_ids, on_masks, off_masks, state from batch_target")
    assert [tuple(row.values()) for row in rows] == [
        (people, [general], [0, priority, 0, priority], "CHANGED")
    ]
    fresh = await open_pool(dsn, max_size=4)  # what was prepared for the former table is of no use
    async with working(BatchWorker(fresh, host, poll_seconds=0.05)):
        row = await batches.ended(run)
    await fresh.close()
    assert (row["status"], row["done"]) == ("DONE", 4)
    assert await actual(district) == {
        **{(each, None, "CELL_PHONE", "VOICE"): (general, 0) for each in people[:3]},
        (people[3], None, "CELL_PHONE", "VOICE"): (0, general),
    }
