"""What payloads and events show of the graph: the bytes that PostgreSQL made, and few events at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving
from tests.support.ws import PATIENCE, events, read_events, socket, streamed

PEOPLE, WATCHERS, AT_ONCE = 30, 6, 2
RUN = """{ state: status requestedAt restored reverts { id } progress { done total } __typename
  exclusions(first: 50) { edges { cursor node {
    because rule contactPoint reason person { id firstName contactPoints { kind value } } } }
    pageInfo { endCursor } } }"""
PERSON = "{ id firstName contactPoints { kind value } preferences { contactPoint method value on chosen } }"
KEPT_OUT = 'subscription { batchRun(id: "run_%s") { exclusions(first: 5) { edges { cursor } } } }'
STATE = 'subscription { batchRun(id: "run_%s") { status } }'


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    async with serving(db, host, "maple") as server:
        yield server


async def run_of(district: DistrictBuilder, status: str = "DONE") -> int:
    """Record a run that kept people out; return its number."""
    school = await district.school()
    people = [await district.student(school, f"Sam{n} Lane", cell_phone=str(n)) for n in range(PEOPLE)]
    run = await district.insert(
        "batch_run", "batch_run_id", mode="STUDENTS", scope="{}", requested_by="ADMIN", status=status
    )
    await district.insert(
        "batch_rule", batch_run_id=run, rule_no=1, plugin="a", rule="b", code="B", because='It\n is "so".'
    )
    await district.insert(
        "batch_exclusion_block",
        batch_run_id=run,
        block=1,
        rule_no=1,
        household=False,
        contact_point="CELL_PHONE",
        reasons=1,
        subject_ids=people,
    )
    return run


async def raw(server: TestServer, query: str, accept: str = "application/json") -> bytes:
    """Return the answer as it was sent, but for line breaks, which an event cannot have."""
    headers = {"Authorization": f"Bearer {server.token()}", "Accept": accept}
    async with server.session.post(
        f"{server.url}/graphql", json={"query": query}, headers=headers
    ) as response, asyncio.timeout(PATIENCE):  # fmt: skip
        return (await response.read()).replace(b"\n", b" ")


def value(answer: bytes, key: str) -> bytes:
    """Return the text from a field's value to the end of the answer."""
    return answer[answer.index(f'"{key}"'.encode()) :].partition(b":")[2].strip()


async def test_an_event_is_what_the_database_made(server: TestServer, district: DistrictBuilder) -> None:
    """An event's object is byte for byte that of the query: no value of it was made in Python, however many."""
    run = await run_of(district)
    query = value(await raw(server, f'{{ mine: batchRun(id: "run_{run}") {RUN} }}'), "mine")
    event = await raw(
        server, f'subscription {{ mine: batchRun(id: "run_{run}") {RUN} }}', "text/event-stream"
    )
    assert query.count(b'"because"') == PEOPLE
    sent = event.partition(b"data: ")[2].partition(b"  event: complete")[0]
    assert sent == b'{"data":{"mine":' + query


async def test_a_payload_is_what_the_database_made(server: TestServer, district: DistrictBuilder) -> None:
    """The same for what a mutation shows; beside it stand `userErrors` and `__typename` as ever."""
    person = await district.student(await district.school(), email="a@b.example", cell_phone="1")
    cell = '{ contactPoint: EMAIL, method: EMAIL, reason: "GENERAL", on: true }'
    changed = await raw(
        server,
        f'mutation {{ m: setPreferences(input: {{ personId: "person_{person}", cells: [{cell}] }}) '
        f"{{ __typename userErrors {{ code }} they: person {PERSON} }} }}",
    )
    query = value(await raw(server, f'{{ they: person(id: "person_{person}") {PERSON} }}'), "they")
    assert query.count(b'"method"') > 1
    assert changed == (
        b'{"data":{"m":{"__typename":"SetPreferencesPayload","userErrors":[],"they":'
        + query.removesuffix(b"}}")
        + b"}}}"
    )


async def waiting(db: Pool) -> int:
    """Return how many statements wait for the table of those who were kept out."""
    async with db.acquire() as conn:
        return await conn.fetchval(
            "select count(*) from pg_locks l join pg_database d on d.oid = l.database"
            " where d.datname = current_database() and l.relation = 'batch_exclusion_block'::regclass and not l.granted"
        )


async def wait_for(db: Pool, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while await waiting(db) < number:
            await asyncio.sleep(0.02)


async def test_a_district_makes_few_events_at_once(
    server: TestServer, db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """Many watchers of one district read two at a time, and each gets its event; others do not wait for them."""
    run, oak = await run_of(district), await DistrictBuilder.create(district.conn, host, "oak")
    theirs = await run_of(oak)
    async with socket(server) as ws:
        await ws.open(server.token())
        async with district.conn.transaction():
            await district.conn.execute("lock table batch_exclusion_block in access exclusive mode")
            for n in range(WATCHERS):
                await ws.subscribe(str(n), KEPT_OUT % run)
            await wait_for(db, AT_ONCE)
            async with events(server, STATE % theirs, token=server.token(district="oak")) as response:
                async with asyncio.timeout(PATIENCE):
                    assert [name async for name, _ in read_events(response)] == ["next", "complete"]
            assert await waiting(db) == AT_ONCE
        got = [await ws.receive() for _ in range(2 * WATCHERS)]
    assert sorted((message["type"], message["id"]) for message in got) == sorted(
        (type_, str(n)) for n in range(WATCHERS) for type_ in ("next", "complete")
    )


async def test_a_refused_event_ends_its_stream(db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
    """An event that is larger than an answer may be is an error with its path, and the last of its stream."""
    run = await run_of(district, "APPLYING")
    await district.conn.execute(  # Held by a server that is elsewhere, so that none here works it meanwhile.
        "update batch_run set lease_owner = 'elsewhere', lease_expires_at = 'infinity' where batch_run_id = $1",
        run,
    )
    query = f'subscription {{ mine: batchRun(id: "run_{run}") {RUN} }}'
    async with serving(db, host, "maple", max_answer_bytes=1_000) as server, socket(server) as ws:
        told = await streamed(server, query)
        assert [list(each) for each in told] == [["errors"]]
        [error] = told[0]["errors"]
        assert (error["extensions"]["code"], error["path"]) == ("ANSWER_TOO_LARGE", ["mine"])
        await ws.open(server.token())
        await ws.subscribe("w", query)
        assert await ws.receive() == {"type": "error", "id": "w", "payload": [error]}
