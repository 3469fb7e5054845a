"""What clients' documents cost PostgreSQL in memory is bounded, however many they are."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gql_server.db.pool import Pool, open_pool
from gql_server.domain.viewer import Role
from tests.support.backends import MIB
from tests.support.graph import compile_document

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system does not tell it"),
]

PERSON = "person(id: $id) { firstName preferences { contactPoint on } }"
QUERY = f"query ($id: ID!) {{ {PERSON} }}"
BUDGET = 16 * MIB
CONNECTIONS = 2
BESIDE = 12 * MIB
"""What a process of PostgreSQL takes for itself while it plans a read, and for what it knows of tables, at most."""


MUCH = """person(id: $id) { preferences { contactPoint on } optOuts { address } enrollments { grade school { name } }
  households { household { name preferences { on } members { person { firstName } } } }
  contacts { contact { firstName preferences { on } } } students { student { firstName preferences { on } } } }"""
LONG = f"query ($id: ID!) {{ {' '.join(f'a{n}: {MUCH}' for n in range(5))} }}"
LONG_BUDGET = 52 * MIB


def statement(query: str = QUERY) -> str:
    """Return a small read, in which parameters are replaced by null: it finds nobody."""
    compiled = compile_document(query, Role.ADMIN, {"id": "person_1"})
    assert compiled.numbered is not None
    text, names = compiled.numbered
    for number in range(len(names), 0, -1):
        text = text.replace(f"${number}", "null")
    return text


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    pool = await open_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, max_read_memory=BUDGET)
    yield pool
    await pool.close()


async def run(pool: Pool, text: str) -> None:
    async with pool.acquire(read=text) as conn:
        await conn.fetchrow(text)


async def backends(pool: Pool) -> Sequence[int]:
    """Return the processes of all of the pool's connections."""
    async with pool.acquire() as one, pool.acquire() as other:
        return [await conn.fetchval("select pg_backend_pid()") for conn in (one, other)]


def private(pids: Sequence[int]) -> int:
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


async def prepared(pool: Pool, like: str = "%request_tag%") -> int:
    """Return how many statements of a kind are prepared on all connections."""
    async with pool.acquire() as one, pool.acquire() as other:
        query = "select count(*) from pg_prepared_statements where statement like $1"
        return sum([await conn.fetchval(query, like) for conn in (one, other)])


async def test_two_thousand_documents_cost_no_more_than_the_budget(pool: Pool) -> None:
    """2,000 reads that differ, each used twice and so worth to be prepared, leave the processes' private memory
    within the budget; what the product prepared for itself is still there."""
    own = "select 1 as the_products_own"
    for pid in await backends(pool):
        async with pool.acquire() as conn:
            assert await conn.fetchval(own) == 1
            assert pid
    text = statement()
    await run(pool, text)
    pids = await backends(pool)
    own_before, before = await prepared(pool, "%products_own%"), private(pids)
    for n in range(2_000):
        for _ in range(2):
            await run(pool, f"{text} -- {n}")
    assert set(await backends(pool)) == set(pids)
    assert private(pids) - before < BUDGET + CONNECTIONS * BESIDE
    assert 10 < await prepared(pool) < BUDGET / (len(text) * 60)
    assert await prepared(pool, "%products_own%") == own_before > 0


async def test_long_documents_cost_no_more_than_the_budget(dsn: str) -> None:
    """Reads that are as long as they may be take several times more memory to be planned than to be kept, and a process
    does not give it back: it counts against the budget too, whether a read is prepared or runs once."""
    text = statement(LONG)
    assert 60_000 < len(text) < 90_000
    pool = await open_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, max_read_memory=LONG_BUDGET)
    await run(pool, statement())
    pids = await backends(pool)
    before = private(pids)
    for n in range(16):
        for _ in range(6):
            await run(pool, f"{text} -- {n}")
    assert set(await backends(pool)) == set(pids)
    assert private(pids) - before < LONG_BUDGET
    await pool.close()


async def test_reads_that_take_turns_keep_their_places(pool: Pool) -> None:
    """Of reads that are used equally often, more than there is room for, as many as fit stay prepared."""
    text = statement()
    texts = [f"{text} -- {n}" for n in range(BUDGET // (len(text) * 50))]
    for _ in range(3):
        for each in texts:
            await run(pool, each)

    async def names() -> set[str]:
        async with pool.acquire() as one, pool.acquire() as other:
            query = "select name from pg_prepared_statements where statement like $1"
            return {row["name"] for conn in (one, other) for row in await conn.fetch(query, "%request_tag%")}

    kept = await names()
    for each in texts:
        await run(pool, each)
    assert await names() == kept
    for _ in range(12):  # whatever is used more comes in
        await run(pool, f"{text} -- new")
    assert await prepared(pool, "% -- new") == 1


async def test_a_read_goes_where_it_is_prepared(pool: Pool) -> None:
    """Reads that are used a few times are prepared on one connection each, and both connections hold some."""
    text = statement()
    texts = [f"{text} -- {n}" for n in range(8)]
    for _ in range(4):
        await asyncio.gather(*(run(pool, each) for each in texts[:4]))
        for each in texts[4:]:
            await run(pool, each)
    async with pool.acquire() as one, pool.acquire() as other:
        query = "select count(*) from pg_prepared_statements where statement like $1"
        counts = [await conn.fetchval(query, "%request_tag%") for conn in (one, other)]
    assert sum(counts) == 8
    assert min(counts) > 0


async def test_without_a_budget_no_read_is_prepared(dsn: str) -> None:
    """With no memory for reads, each is planned anew, and answered."""
    pool = await open_pool(dsn, min_size=2, max_size=CONNECTIONS, max_read_memory=0)
    for _ in range(5):
        await run(pool, statement())
    assert await prepared(pool) == 0
    await pool.close()


async def test_a_change_of_the_schema_does_not_disturb_reads(pool: Pool) -> None:
    """When the driver drops what it knows, as after a change of types, reads are prepared anew."""
    text = statement()
    for _ in range(3):
        await run(pool, text)
    assert await prepared(pool) == 1
    async with pool.acquire() as conn:
        await conn.reload_schema_state()  # type: ignore[attr-defined]
    for n in range(3):
        await run(pool, text)
        await run(pool, f"{text} -- {n % 2}")
    assert await prepared(pool) >= 1
