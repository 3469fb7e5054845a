"""One district's reads and writes leave connections to all others, however many of them last."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gql_server.db.pool import Pool, open_pool
from gql_server.db.slots import FairSlots
from gql_server.errors import Busy
from gql_server.hooks.host import PluginHost
from tests.faults.test_locks import PATIENCE, READ, codes, errors, write
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

PEOPLE = "{ people(first: 50) { edges { node { contactPoints { value } } } } }"
OPTIONS = '{ batchOptions(mode: "STUDENT_CONTACTS") { population cells { reachable because } } }'
CLIENTS = 24


@pytest.fixture
async def impatient(dsn: str, db: Pool) -> AsyncIterator[Pool]:
    """A pool of the usual size on the same database: who waits for a lock waits on, who waits for a turn does not."""
    pool = await open_pool(dsn, max_size=10, lock_timeout=PATIENCE, acquire_timeout=1)
    yield pool
    await pool.close()


@asynccontextmanager
async def asking(server: TestServer, body: Any, district: str) -> AsyncIterator[list[Any]]:
    """Have 24 clients ask the same at once, each again as soon as it is answered; give their answers."""
    told: list[Any] = []
    stopped = asyncio.Event()

    async def ask() -> None:
        while not stopped.is_set():
            told.append((await server.post(body, token=server.token(district=district)))[1])

    clients = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
    await asyncio.sleep(0.2)
    try:
        yield told
        stopped.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*clients)
    finally:
        for client in clients:
            client.cancel()


@pytest.mark.parametrize("query", [PEOPLE, OPTIONS])
async def test_reads_of_one_district_leave_connections_to_the_others(
    db: Pool, impatient: Pool, host: PluginHost, district: DistrictBuilder, query: str
) -> None:
    """24 clients of a district whose reads do not end: another's reads and writes are answered all the while, and who
    had no turn is told BUSY with words."""
    await district.student(await district.school(), email="ada@example.org")
    birch = await DistrictBuilder.create(district.conn, host, "birch")
    await birch.person()
    save = 'mutation { saveFilter(input: {name: "Filter %d", kind: STUDENT, criteria: {}}) { userErrors { code } } }'
    async with AsyncExitStack() as stack, serving(impatient, host, "maple") as server:
        theirs = server.token(district="birch")
        await server.run("{ viewer { role } }")
        await server.run("{ viewer { role } }", token=theirs)
        conn = await stack.enter_async_context(db.transaction())
        await conn.execute("lock table contact_point in access exclusive mode")
        async with asking(server, {"query": query}, "maple") as told:
            for n in range(10):
                _, answer = await server.post(READ, token=theirs)
                assert "errors" not in answer, answer
                _, answer = await server.post({"query": save % n}, token=theirs)
                assert "errors" not in answer, answer
            async with asyncio.timeout(PATIENCE):
                while not told:
                    await asyncio.sleep(0.05)
            await stack.aclose()
        assert {words for answer in told[:10] for _, words in errors(answer)} == {
            "Too many reads of this district are waiting. Try again in a moment."
        }
        assert set().union(*map(codes, told)) == {"BUSY"}
        await server.run(query)


@pytest.mark.parametrize("locked", [["maple", "oak"], ["maple", "oak", "elm"]])
async def test_locks_on_several_districts_leave_writes_to_the_next(
    db: Pool, impatient: Pool, host: PluginHost, district: DistrictBuilder, locked: list[str]
) -> None:
    """Foreign locks on the rows of two and of three districts, and 24 who write in each: every write of one more
    district, and a read of everybody's, is answered all the while."""
    people = {"maple": await district.person(email="ada@example.org")}
    for code in ("oak", "elm", "birch"):
        added = await DistrictBuilder.create(district.conn, host, code)
        people[code] = await added.person(email="sam@example.org")
    async with AsyncExitStack() as stack, serving(impatient, host, "birch") as server:
        conn = await stack.enter_async_context(db.transaction())
        await conn.execute("select from district where code = any($1) for update", locked)
        async with AsyncExitStack() as writers:
            for code in locked:
                await writers.enter_async_context(asking(server, write(people[code]), code))
            for n in range(10):
                _, answer = await server.post(write(people["birch"], on=bool(n % 2)), token=server.token())
                assert "errors" not in answer, answer
                for code in people:
                    _, answer = await server.post(READ, token=server.token(district=code))
                    assert "errors" not in answer, answer
            await stack.aclose()


@pytest.mark.parametrize("places", range(1, 21))
async def test_who_has_no_place_gets_one(places: int) -> None:
    """Whatever order districts come in: one alone holds no more than its part, and all that is left beside that part
    goes to districts that hold none; nobody who waits is forgotten when places come back."""
    alone = max(1, places // 2)
    shares = FairSlots(places, alone, 0.001, "Wait.")
    async with AsyncExitStack() as first:
        for _ in range(alone):
            await first.enter_async_context(shares.slot(1))
        async with AsyncExitStack() as others:
            for district_id in range(2, 2 + places - alone):
                await others.enter_async_context(shares.slot(district_id))
                for held in (1, district_id):
                    with pytest.raises(Busy):
                        async with shares.slot(held):
                            pass
            with pytest.raises(Busy):
                async with shares.slot(0):
                    pass

    patient, order = FairSlots(places, alone, PATIENCE, "Wait."), []

    async def work(district_id: int | None, number: int) -> None:
        async with patient.slot(district_id):
            await asyncio.sleep(0)
            order.append((district_id, number))

    tasks = [asyncio.create_task(work(n % 3 or None, n)) for n in range(60)]
    await asyncio.sleep(0)
    for task in tasks[::7]:
        task.cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks, return_exceptions=True)
        for district_id in (None, 1, 2):
            ours = [number for each, number in order if each == district_id]
            assert ours == sorted(ours)  # first come, first served
        async with AsyncExitStack() as every:
            for district_id in range(places):
                await every.enter_async_context(patient.slot(district_id))
