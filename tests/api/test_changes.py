"""The district's history: every write one revision, and the log alone gives the preferences (D28)."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.changes import Source
from gql_server.domain.channels import PERSON_CHANNELS, Method
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.sql import Sql
from gql_server.hooks import PreferenceChanges, hookimpl
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.changes import ChangeSet, take_revision, write_preferences
from gql_server.services.preferences import PreferenceCell, PreferenceService
from tests.support.batch import (
    CELL,
    EMAIL,
    HOUSEHOLD,
    OFF,
    Batches,
    actual,
    admin,
    cells,
    replayed,
    revisions,
    working,
)
from tests.support.builder import DistrictBuilder

pytestmark = pytest.mark.slow


@pytest.fixture
async def batches(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[Batches]:
    async with working(BatchWorker(db, host, chunk_size=3, poll_seconds=0.05)) as worker:
        yield Batches(db, host, district, worker)


async def families(district: DistrictBuilder, number: int) -> list[int]:
    """Add students, each with a parent in a household of their own; return the parents."""
    school, parents = await district.school(), []
    for n in range(number):
        parent = await district.person(cell_phone=f"1{n}", email=f"e{n}@x.example")
        student = await district.student(school, cell_phone=f"2{n}")
        await district.relate(student, parent)
        await district.household(student, parent, phone=f"3{n}")
        parents.append(parent)
    return parents


async def test_the_log_alone_gives_the_preferences(batches: Batches, district: DistrictBuilder) -> None:
    """Replaying all changes from nothing gives exactly today's preferences, choices among them (D28)."""
    parents = await families(district, 7)
    service = PreferenceService(batches.db, batches.host)
    text = PreferenceCell(CELL, Method.TEXT, "GENERAL", True)
    await service.set_person(admin(district), encode_id(IdKind.PERSON, parents[0]), [text])
    await batches.run(
        *cells(CELL, "EMERGENCY", "GENERAL"), *cells(HOUSEHOLD, "GENERAL"), mode="STUDENT_CONTACTS"
    )
    chosen = Sql(
        "select person_id as subject_id, contact_point, method, 0::bigint as on_mask, 5::bigint as off_mask"
        " from preference where person_id = :person_id",
        {"person_id": parents[1]},
    )
    async with batches.db.transaction() as conn:
        change_set = ChangeSet(district.id, Source.PORTAL, "GUARDIAN:x")
        await write_preferences(conn, change_set, chosen, household=False, mark_chosen=True)
    await batches.run(
        *cells(CELL, "EMERGENCY"), *cells(EMAIL, "TEACHER"), mode="STUDENT_CONTACTS", keep_chosen=True
    )
    await batches.run(*cells(CELL, "GENERAL"), *cells(HOUSEHOLD, "GENERAL", to=OFF), mode="STUDENT_CONTACTS")
    state = await actual(district)
    assert any(chosen for _, chosen in state.values())
    assert await replayed(district) == state


async def test_every_write_is_one_revision(batches: Batches, district: DistrictBuilder) -> None:
    """Revisions have no gaps; a batch's change sets name their run, its source and who asked for it (D28)."""
    await families(district, 7)
    run = await batches.run(*cells(CELL, "EMERGENCY"))
    rows = await district.conn.fetch("select source, actor, batch_run_id from change_set")
    assert {tuple(row.values()) for row in rows} == {("BATCH", "ADMIN", run)}
    assert await revisions(district) == [1, 2, 3]
    async with batches.db.transaction() as conn:
        assert await take_revision(conn, district.id, Source.IMPORT, "IMPORT") == 4
    assert await district.conn.fetchval("select revision from district") == 4


async def test_writers_and_a_run_at_once_lose_nothing(batches: Batches, district: DistrictBuilder) -> None:
    """Administrators who write while runs work the same people: no deadlock, no gap in the revisions, and the
    log still gives the preferences, whether the rows were there before or not (D28)."""
    parents = await families(district, 12)
    service, viewer = PreferenceService(batches.db, batches.host), admin(district)
    dice = random.Random(7)

    async def write(times: int) -> None:
        for _ in range(times):
            channels = dice.sample(PERSON_CHANNELS, 3)
            named = [PreferenceCell(*channel, "GENERAL", dice.random() < 0.5) for channel in channels]
            await service.set_person(viewer, encode_id(IdKind.PERSON, dice.choice(parents)), named)

    named = (*cells(CELL, "EMERGENCY", "GENERAL"), *cells(EMAIL, "GENERAL", to=OFF))
    await asyncio.gather(
        *(write(25) for _ in range(4)),
        *(batches.run(*named, mode="STUDENT_CONTACTS") for _ in range(3)),
    )
    assert await replayed(district) == await actual(district)
    taken = await revisions(district)
    assert list(taken) == list(range(1, len(taken) + 1))
    assert await district.conn.fetchval("select revision from district") == len(taken)


async def test_a_write_waits_and_then_sees(db: Pool, district: DistrictBuilder) -> None:
    """A write that waited for another decides by what that one left, not by what was there before (D28)."""
    ada = await district.person(cell_phone="1")
    await district.prefer(ada, CELL)
    target = Sql(
        "select :id::bigint as subject_id, 'CELL_PHONE'::contact_point_kind as contact_point,"
        " 'VOICE'::method as method, :on_mask::bigint as on_mask, 0::bigint as off_mask"
    )
    change_set = ChangeSet(district.id, Source.ADMIN, "ADMIN")
    async with db.acquire() as first, db.acquire() as second:
        transaction = first.transaction()
        async with transaction:
            await write_preferences(first, change_set, target.having(id=ada, on_mask=1), household=False)
            late = asyncio.create_task(
                write_preferences(second, change_set, target.having(id=ada, on_mask=3), household=False)
            )
            await asyncio.sleep(0.2)
            assert not late.done()
        written = await late
    assert [(count.asked, count.flipped) for count in written.counts] == [(3, 2)]
    assert await district.conn.fetchval("select reasons_on from preference") == 3
    assert written.revision == 2


async def test_plugins_hear_of_every_change_set(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """After each commit plug-ins are told its revision and how many preferences changed; one that fails then
    undoes nothing."""
    heard: list[PreferenceChanges] = []

    class Listener:
        @hookimpl
        def preferences_changed(self, changes: PreferenceChanges) -> None:
            heard.append(changes)
            raise RuntimeError("not now")

    await families(district, 4)
    listening = PluginHost([], given={"standard": _builtin("standard_reasons"), "mode": _builtin("students"),
                                      "listener": Listener()})  # fmt: skip
    async with working(BatchWorker(db, listening, chunk_size=3, poll_seconds=0.05)) as worker:
        batches = Batches(db, listening, district, worker)
        await batches.run(*cells(CELL, "EMERGENCY", "GENERAL"))
    assert [(c.district, c.revision, c.source, c.preferences) for c in heard] == [
        ("maple", 1, "BATCH", 6),
        ("maple", 2, "BATCH", 2),
    ]


def _builtin(name: str) -> object:
    from gql_server.db.statements import resource_folder
    from gql_server.hooks.discovery import load_file

    return load_file(name, resource_folder("plugins") / name / "__init__.py")
