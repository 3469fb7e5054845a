"""Clients that are slow, many, or speak no HTTP: none of them keeps others out, or a stopping server alive."""

import asyncio
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.command import COMMAND, environment
from tests.support.server import KEY, TestServer, serving
from tests.support.ws import PATIENCE

pytestmark = pytest.mark.slow

HALF_A_HEAD = b"POST /graphql HTTP/1.1\r\nHost: a\r\nX-Slow: "
PAGE = b"GET /graphql HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n"
END = b"</html>\n"
MANY_PAGES = PAGE * 4_000
"""More than the buffers of both sides hold, when it is answered with GraphiQL's page."""


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


@pytest.fixture
async def server(
    db: Pool, host: PluginHost, district: DistrictBuilder, logged: list[Any]
) -> AsyncIterator[TestServer]:
    async with serving(
        db, host, "maple", graphiql=True, header_timeout=1, body_timeout=1, write_timeout=0.3,
        max_connections_per_address=5, stop_timeout=5,
    ) as server:  # fmt: skip
        yield server


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    """A connection whose client takes little into its buffers."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def port_of(server: TestServer) -> int:
    return int(server.url.rpartition(":")[2])


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server closes the connection, in whatever way."""
    came = b""
    async with asyncio.timeout(PATIENCE):
        try:
            while part := await reader.read(65536):
                came += part
        except ConnectionError:
            pass
    return came


async def until(logged: list[Any], event: str) -> Any:
    """Return the entry of an event as soon as it is logged."""
    async with asyncio.timeout(PATIENCE):
        while not (entries := [entry for entry in logged if entry["event"] == event]):
            await asyncio.sleep(0.02)
    return entries[0]


@pytest.mark.parametrize("first", [b"", PAGE], ids=["new", "kept alive"])
async def test_a_half_sent_head_has_a_deadline(server: TestServer, first: bytes) -> None:
    """A request whose headers do not end is closed, on a new connection and on one that had an answer."""
    async with connected(port_of(server)) as (reader, writer):
        if first:
            writer.write(first)
            await reader.readuntil(END)
        writer.write(HALF_A_HEAD)
        rest = await all_of(reader)
        assert b"HTTP/1.1" not in rest


async def test_a_connection_that_says_nothing_has_a_deadline(server: TestServer) -> None:
    """Who connects and sends nothing is closed as well."""
    async with connected(port_of(server)) as (reader, _):
        assert await all_of(reader) == b""


async def test_a_half_sent_body_has_a_deadline(server: TestServer) -> None:
    """A body that does not end is answered with 408 and words, and its connection ends."""
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token()}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    async with connected(port_of(server)) as (reader, writer):
        writer.write(head.encode())
        answer = await all_of(reader)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"TIMEOUT"' in answer


async def test_a_slow_request_in_time_is_answered(server: TestServer) -> None:
    """A head that comes in parts, but in time, is a request like any other; the connection is kept for a next one."""
    async with connected(port_of(server)) as (reader, writer):
        for _ in range(2):
            for part in (PAGE[:10], PAGE[10:]):
                writer.write(part)
                await asyncio.sleep(0.05)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(END)


async def test_one_address_has_a_bound_of_connections(server: TestServer, logged: list[Any]) -> None:
    """Connections beyond the bound are closed as they come, with one line for all of them; freed places are taken."""
    port = port_of(server)
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
    for reader, writer in opened:
        writer.write(PAGE)
        await reader.readline()
    for _ in range(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await all_of(reader) == b""
        writer.close()
    for _, writer in opened:
        writer.close()
    async with asyncio.timeout(PATIENCE):
        while True:
            async with connected(port) as (reader, writer):
                writer.write(PAGE)
                try:
                    if (await reader.readline()).startswith(b"HTTP/1.1 200 "):
                        break
                except ConnectionError:
                    pass
    entries = [entry for entry in logged if entry["event"] == "too_many_connections_of_one_address"]
    assert [(entry["address"], entry["limit"]) for entry in entries] == [("127.0.0.1", 5)]


async def test_all_addresses_have_a_bound_of_connections(
    db: Pool, host: PluginHost, district: DistrictBuilder, logged: list[Any]
) -> None:
    """There is a bound for all connections as well."""
    async with (
        serving(db, host, "maple", max_connections=1) as server,
        connected(port_of(server)),
        connected(port_of(server)) as (reader, _),
    ):
        assert await all_of(reader) == b""
    assert [entry["event"] for entry in logged] == ["too_many_connections"]


async def test_an_answer_that_nobody_reads_is_given_up(server: TestServer, logged: list[Any]) -> None:
    """A client that takes nothing of its answers loses its connection; others are answered meanwhile."""
    async with connected(port_of(server)) as (_, writer):
        writer.write(MANY_PAGES)
        await server.run("{ viewer { role } }")
        entry = await until(logged, "answer_not_read_in_time")
    assert entry["bytes"] > 0


NO_HTTP = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n",
    "method": b"HELLO\r\n\r\n",
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "header": b"GET / HTTP/1.1\r\nFoo bar\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\nHost: a\r\nFoo: a\x00b\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: a\r\nFoo: " + b"a" * 20_000 + b"\r\n\r\n",
    "long line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"A: 1\r\n" * 300 + b"\r\n",
    "length": b"POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    "chunk": b"POST /graphql HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "address": b"GET http://[::1/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


async def test_what_is_no_http_costs_one_line(
    server: TestServer, logged: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is answered with 400 and words that hold nothing of the inside or of the request. The log gets one short line
    at once, and of a flood only the number."""
    for name, request in NO_HTTP.items():
        async with connected(port_of(server)) as (reader, writer):
            writer.write(request)
            answer = await all_of(reader)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split()[1] == b"400", name
        assert b'"BAD_REQUEST"' in body, name
        assert len(body) < 200, name
    assert [entry["event"] for entry in logged] == ["malformed_request"]
    assert len(str(logged[0])) < 200
    assert caplog.records == []


async def test_a_body_that_breaks_off_costs_no_traceback(
    server: TestServer, logged: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Chunks that turn out to be none, after the request has begun, are the client's fault and no error of ours."""
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token()}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
    )
    async with connected(port_of(server)) as (reader, writer):
        writer.write(head.encode())
        await asyncio.sleep(0.1)
        writer.write(b"zz\r\n")
        answer = await all_of(reader)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert {entry["event"] for entry in logged} <= {"malformed_request"}
    assert caplog.records == []


async def test_clients_that_do_not_read_do_not_keep_a_stopping_server(dsn: str) -> None:
    """After SIGTERM the server ends, in spite of a client that reads no answer, one that sends half a request and
    a WebSocket whose client is silent."""
    settings = {
        "DATABASE_URL": dsn, "SIGNING_KEY": KEY, "PORT": "0", "GRAPHIQL": "true", "STOP_TIMEOUT": "10",
        "WRITE_TIMEOUT": "1000", "HEADER_TIMEOUT": "1000",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), "serve",
        env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        port = int(line.decode().strip().removesuffix("/graphql").rpartition(":")[2])
        async with (
            connected(port) as (reader, writer),
            connected(port) as (_, half),
            connected(port) as socket,
        ):
            writer.write(MANY_PAGES)
            half.write(HALF_A_HEAD)
            socket[1].write(
                b"GET /graphql HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Protocol: graphql-transport-ws\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert b" 101 " in await socket[0].readline()
            assert b" 200 " in await reader.readline()
            process.send_signal(signal.SIGTERM)
            _, complaints = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, complaints
    assert b"Traceback" not in complaints
