"""GraphQL over HTTP, against a real server."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest

from gql_server.api.auth import Tokens
from gql_server.db.pool import Pool
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import KEY, TestServer, serving

pytestmark = pytest.mark.slow

WAITING = """
select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()
"""
VIEWER = {"query": "{ viewer { role } }"}


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    async with serving(db, host, "maple", graphiql=True, max_body_bytes=20_000) as server:
        yield server


async def test_a_query_is_answered(server: TestServer) -> None:
    """A query with a token gets data, in the media type the client asked for."""
    for media_type in ("application/json", "application/graphql-response+json"):
        async with server.session.post(
            f"{server.url}/graphql",
            json=VIEWER,
            headers={"Authorization": f"Bearer {server.token()}", "Accept": media_type},
        ) as response:
            assert response.content_type == media_type
            assert await response.json(content_type=None) == {"data": {"viewer": {"role": "ADMIN"}}}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer nonsense",
        "Basic YTpi",
        "Bearer " + Tokens("another key of thirty-two bytes or more").issue(
            "maple", Role.ADMIN, None, timedelta(minutes=5)
        ),
        "Bearer " + Tokens(KEY).issue("maple", Role.ADMIN, None, timedelta(seconds=-1)),
        "Bearer " + Tokens(KEY).issue("no-such-district", Role.ADMIN, None, timedelta(minutes=5)),
    ],
    ids=["none", "empty", "garbled", "basic", "another key", "expired", "another district"],
)  # fmt: skip
async def test_without_a_good_token_nothing_is_answered(server: TestServer, header: str | None) -> None:
    """No token, a bad one and an expired one are answered with 401, and with nothing else."""
    status, answer = await server.post(VIEWER, headers={"Authorization": header} if header else {})
    assert status == 401
    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert "data" not in answer


async def test_a_token_that_was_used_expires(server: TestServer) -> None:
    """A token is refused from the moment at which it expires, although it was accepted and remembered before."""
    short = Tokens(KEY).issue("maple", Role.ADMIN, None, timedelta(seconds=2))
    statuses = []
    async with asyncio.timeout(10):
        while not statuses or statuses[-1] == 200:
            statuses.append((await server.post(VIEWER, token=short))[0])
            await asyncio.sleep(0.05)
    assert statuses[0] == 200
    assert statuses[-1] == 401


@pytest.mark.parametrize(
    ("version", "extra", "closes"),
    [
        ("1.1", "", False),
        ("1.1", "Expect: 100-continue\r\n", False),
        ("1.1", "Connection: close\r\n", True),
        ("1.0", "", True),
    ],
)
async def test_the_head_of_a_response(server: TestServer, version: str, extra: str, closes: bool) -> None:
    """Each version of HTTP gets a head with type, length and date, and its connection is closed if it asks for that."""
    body = orjson.dumps(VIEWER)
    request = (
        f"POST /graphql HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n{extra}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(request.encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    if "Expect" in extra:
        assert head.startswith("HTTP/1.1 100 Continue")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    answer = await reader.readexactly(int(headers["Content-Length"]))
    assert lines[0] == f"HTTP/{version} 200 OK"
    assert orjson.loads(answer) == {"data": {"viewer": {"role": "ADMIN"}}}
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert {"Date", "Server"} <= set(headers)
    if closes:
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"1", 400),
        (b"[]", 400),
        (b'"query"', 400),
        (b"{}", 400),
        (b'{"query": 5}', 400),
        (b'{"query": "{ viewer { role } }", "variables": []}', 400),
        (b'{"query": "{ viewer { role } }", "operationName": 1}', 400),
        (b'{"query": "\xff"}', 400),
        (b'{"query": "' + b" " * 30_000 + b'"}', 413),
    ],
)
async def test_a_bad_body_is_refused(server: TestServer, body: bytes, status: int) -> None:
    """A body that is no GraphQL request gets a 4xx with a code, never a 500."""
    answered, answer = await server.post(body, token=server.token())
    assert (answered, len(answer["errors"])) == (status, 1)


async def test_corrupt_gzip_is_refused(server: TestServer) -> None:
    """A body that cannot be unpacked gets a 400."""
    headers = {"Content-Encoding": "gzip"}
    status, _ = await server.post(gzip.compress(b"{}")[:-9] + b"x", token=server.token(), headers=headers)
    assert status == 400


async def test_other_media_types_are_refused(server: TestServer) -> None:
    """What is not JSON gets 415, and a client that takes no JSON gets 406."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _ = await server.post(b"query={viewer{role}}", token=server.token(), headers=form)
    assert status == 415
    status, _ = await server.post(VIEWER, token=server.token(), headers={"Accept": "text/csv"})
    assert status == 406


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "GRAPHQL_VALIDATION_FAILED"),
        ("{ }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ viewer { rol } }", "GRAPHQL_VALIDATION_FAILED"),
        ("query A { viewer { role } } query B { viewer { role } }", "BAD_REQUEST"),
        ("query ($id: ID!) { person(id: $id) { id } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ people(first: 0) { edges { cursor } } }", "INVALID_ARGUMENT"),
        ("{ people(first: 101) { edges { cursor } } }", "INVALID_ARGUMENT"),
        ('{ people(after: "x") { edges { cursor } } }', "INVALID_ARGUMENT"),
        ('{ batchOptions(mode: "NOPE") { population } }', "UNKNOWN_MODE"),
        ("{ " + " ".join(f"a{n}: viewer {{ role }}" for n in range(16)) + " }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ viewer { role " + "role " * 1000 + "} }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "{ viewer { person "
            + "{ households { household { members { person " * 3
            + "{ id }"
            + " } } } }" * 3
            + "} }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
    ],
)  # fmt: skip
async def test_a_bad_query_gets_a_code(server: TestServer, query: str, code: str) -> None:
    """What is wrong with a query is said with a stable code, and without suggestions from the schema."""
    _, answer = await server.post({"query": query}, token=server.token())
    assert [error["extensions"]["code"] for error in answer["errors"]] == [code]
    assert "Did you mean" not in str(answer)


async def test_the_page_of_a_vendor_may_be_longer(server: TestServer) -> None:
    """A vendor syncs with pages of up to 1,000; others get up to 100."""
    data = await server.run(
        "{ people(first: 1000) { pageInfo { hasNextPage } } }", token=server.token(Role.VENDOR)
    )
    assert data == {"people": {"pageInfo": {"hasNextPage": False}}}


async def test_operation_name_chooses(server: TestServer) -> None:
    """`operationName` chooses among the operations of a document."""
    body: dict[str, Any] = {"query": "query A { a: viewer { role } } query B { b: viewer { role } }"}
    _, answer = await server.post({**body, "operationName": "B"}, token=server.token())
    assert answer == {"data": {"b": {"role": "ADMIN"}}}


async def test_introspection_works_beside_data(server: TestServer) -> None:
    """Introspection is left to graphql-core, and the data beside it is the same as without it."""
    data = await server.run(
        "{ __schema { queryType { name } } who: viewer { is: role __typename } contactReasons { code } }"
    )
    assert data["__schema"] == {"queryType": {"name": "Query"}}
    assert data["who"] == {"is": "ADMIN", "__typename": "Viewer"}
    assert data["contactReasons"][0] == {"code": "EMERGENCY"}


async def test_a_browser_gets_graphiql(server: TestServer) -> None:
    """GET shows GraphiQL to a browser, and nothing to others."""
    async with server.session.get(f"{server.url}/graphql", headers={"Accept": "text/html"}) as response:
        assert (response.status, response.content_type) == (200, "text/html")
    async with server.session.get(f"{server.url}/graphql", headers={"Accept": "*/*"}) as response:
        assert response.status == 405


async def test_health(server: TestServer) -> None:
    """/healthz and /readyz answer without a token."""
    for path in ("/healthz", "/readyz"):
        async with server.session.get(server.url + path) as response:
            assert response.status == 200


async def test_not_ready_without_migrations(db: Pool, server: TestServer) -> None:
    """/readyz says what is missing, and to run `gql-server migrate`."""
    async with db.acquire() as conn:
        await conn.execute("delete from migration")
    async with server.session.get(f"{server.url}/readyz") as response:
        assert response.status == 503
        assert "gql-server migrate" in (await response.json())["because"]


async def test_a_mutation_ends_without_its_client(
    db: Pool, host: PluginHost, district: DistrictBuilder, server: TestServer
) -> None:
    """A client that leaves in the middle of a mutation does not leave it half done."""
    person = await district.person()
    cells = '{contactPoint: EMAIL, method: EMAIL, reason: "GENERAL", on: true}'
    given = f'{{personId: "person_{person}", cells: [{cells}]}}'
    query = f"mutation {{ setPreferences(input: {given}) {{ userErrors {{ code }} }} }}"
    # Held up by the lock that it takes last, it is in the middle for as long as we like.
    async with db.transaction() as conn:
        await conn.execute("select 1 from district for update")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await server.post({"query": query}, token=server.token())
    async with asyncio.timeout(5):
        while await district.on(person, ContactPointKind.EMAIL) != ["GENERAL"]:
            await asyncio.sleep(0.05)


async def test_a_read_ends_with_its_client(db: Pool, server: TestServer) -> None:
    """A client that leaves in the middle of a read frees its connection."""
    async with db.transaction() as conn:
        await conn.execute("lock table household in access exclusive mode")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await server.post({"query": "{ households { edges { cursor } } }"}, token=server.token())
        async with asyncio.timeout(5):
            while await conn.fetchval(WAITING):
                await asyncio.sleep(0.05)
