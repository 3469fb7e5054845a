"""Bodies, numbers, texts and tokens that nobody sends by mistake: refused with words, over each of the transports."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OctKey
from structlog.testing import capture_logs

from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import KEY, TestServer, serving
from tests.support.ws import socket, streamed

VIEWER = b'{"query": "{ viewer { role } }"}'
LONG = b"9" * 5_000
PACKED = gzip.compress(VIEWER)
NOW = int(datetime.now(UTC).timestamp())


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


@pytest.fixture
async def server(
    db: Pool, host: PluginHost, district: DistrictBuilder, logged: list[Any]
) -> AsyncIterator[TestServer]:
    async with serving(db, host, "maple", max_body_bytes=20_000, token_audience="contacts") as server:
        yield server


def token(**claims: object) -> str:
    """Return a token that is signed well, with these claims changed; None removes one."""
    good = {
        "iss": "gql-server", "aud": "contacts", "district": "maple", "role": "GUARDIAN", "person": "P1",
        "iat": NOW, "exp": NOW + 7_200,
    }  # fmt: skip
    payload = {name: value for name, value in {**good, **claims}.items() if value is not None}
    return jws.serialize_compact({"alg": "HS256"}, json.dumps(payload), OctKey.import_key(KEY))


ADMIN = token(role="ADMIN", person=None)
UNFIT = {
    "NUL in the district": {"district": "map\0le"},
    "surrogate in the district": {"district": "\ud800"},
    "NUL in the person": {"person": "P\0"},
    "surrogate in the person": {"person": "\udfff"},
    "a long person": {"person": "P" * 1_000},
    "a long number": {"exp": 10**4_000},
    "not yet": {"nbf": NOW + 7_000},
    "issued tomorrow": {"iat": NOW + 86_400},
    "for another": {"aud": "another"},
    "for nobody": {"aud": None},
    "for a lifetime": {"exp": NOW + 10 * 366 * 86_400},
}
BODIES = {
    "corrupt gzip": (PACKED[:-9] + b"x", "gzip", 400),
    "gzip that is none": (VIEWER, "gzip", 400),
    "gzip cut off": (PACKED[:-12], "gzip", 400),
    "gzip with a wrong sum": (PACKED[:-8] + b"x" * 8, "gzip", 400),
    "gzip and more": (PACKED + b"more", "gzip", 400),
    "deflate that is none": (b"xxxxx", "deflate", 400),
    "a bomb": (gzip.compress(b" " * 50_000_000), "gzip", 413),
    "brotli": (b"xxxxx", "br", 400),
    "zstandard": (b"xxxxx", "zstd", 400),
    "nothing known": (VIEWER, "x-nothing", 400),
    "two encodings": (gzip.compress(PACKED), "gzip, gzip", 400),
    "a long number": (b'{"query": "{ viewer { role } }", "variables": {"n": ' + LONG + b"}}", None, 400),
    "a long name of the operation": (
        b'{"query": "{ viewer { role } }", "operationName": ' + LONG + b"}",
        None,
        400,
    ),
    "a surrogate in the query": (b'{"query": "{ viewer { role } } # \\ud800"}', None, 400),
    "a surrogate in a variable": (
        b'{"query": "{ viewer { role } }", "variables": {"n": "\\ud800"}}',
        None,
        400,
    ),
    "a surrogate in the name": (b'{"query": "{ viewer { role } }", "operationName": "\\udfff"}', None, 400),
    "deep": (
        b'{"query": "{ viewer { role } }", "variables": ' + b"[" * 9_000 + b"]" * 9_000 + b"}",
        None,
        400,
    ),
    "not UTF-8": (b'{"query": "\xff"}', None, 400),
    "no number": (b'{"query": "{ viewer { role } }", "variables": {"n": NaN}}', None, 400),
}


async def test_bodies_that_cannot_be_read_are_refused(
    server: TestServer, logged: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Each gets a 4xx with a code and words that say what to do, and nothing in the log."""
    for name, (body, encoding, expected) in BODIES.items():
        headers = {"Content-Encoding": encoding} if encoding else {}
        status, answer = await server.post(body, token=ADMIN, headers=headers)
        assert status == expected, name
        assert answer["errors"][0]["extensions"]["code"] in ("BAD_REQUEST", "TOO_LARGE"), name
        assert answer["errors"][0]["message"].endswith("."), name
    assert (logged, caplog.records) == ([], [])


async def test_packed_bodies_are_read(server: TestServer) -> None:
    """gzip and deflate are unpacked; a body that is sent as it is may say so."""
    for body, encoding in ((PACKED, "gzip"), (zlib.compress(VIEWER), "Deflate"), (VIEWER, "identity")):
        status, answer = await server.post(body, token=ADMIN, headers={"Content-Encoding": encoding})
        assert (status, answer) == (200, {"data": {"viewer": {"role": "ADMIN"}}})


LONG_NUMBERS = (
    "{ people(first: %s) { edges { cursor } } }",
    "query ($n: Int = %s) { people(first: $n) { edges { cursor } } }",
    "{ person(id: %s) { id } }",
    "{ people(first: -%s.5) { edges { cursor } } }",
)


async def test_a_long_number_in_a_document_is_refused(server: TestServer, logged: list[Any]) -> None:
    """A number of 5,000 digits is refused with words over HTTP, WebSockets and events alike; it is no error of ours."""
    headers = {"Accept": "application/graphql-response+json"}
    async with socket(server) as client:
        await client.open(ADMIN)
        for query in LONG_NUMBERS:
            document = query % LONG.decode()
            status, answer = await server.post({"query": document}, token=ADMIN, headers=headers)
            assert status == 400
            await client.subscribe("1", document)
            [over_socket] = await client.payloads("1")
            [over_events] = await streamed(server, document, token=ADMIN)
            for [error] in (answer["errors"], over_socket, over_events["errors"]):
                assert error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
                assert error["message"] == "A number may have 100 characters at most."
                assert len(error["locations"]) == 1
    assert logged == []


async def test_tokens_that_say_what_cannot_be_hold_nowhere(server: TestServer, logged: list[Any]) -> None:
    """What no district, person or time can be does not reach the database: 401 with words, over HTTP, WebSockets and
    events alike."""
    for name, claims in UNFIT.items():
        bad = token(**claims)
        for accept in ("application/json", "text/event-stream"):
            status, answer = await server.post(VIEWER, token=bad, headers={"Accept": accept})
            assert status == 401, name
            [error] = answer["errors"]
            assert error["extensions"]["code"] == "UNAUTHENTICATED", name
            assert error["message"].endswith("."), name
        async with socket(server) as client:
            await client.send(type="connection_init", payload={"Authorization": f"Bearer {bad}"})
            assert await client.closed() == 4401, name
    assert logged == []
    status, answer = await server.post(VIEWER, token=token())
    assert (status, answer) == (200, {"data": {"viewer": {"role": Role.GUARDIAN.value}}})
