"""Documents that clients send for the first time, and texts that are the same document, against a real server."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import Pool, open_pool
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving
from tests.support.ws import PATIENCE, events, read_events, socket

pytestmark = pytest.mark.slow

MEDIA_TYPE = "application/graphql-response+json"
LAYOUTS = (
    "%s { %s }",
    "# a comment\n%s\n{\n\t%s\n}",
    "\ufeff%s,,,{\r\n\r\n    %s,}  # the end",
    "\n\n\n%s { #\n\r%s\r}",
)
"""The same document in different texts: an operation and what it selects."""


@pytest.fixture
async def small(dsn: str, district: DistrictBuilder) -> AsyncIterator[Pool]:
    """A pool of two connections."""
    pool = await open_pool(dsn, min_size=2, max_size=2)
    yield pool
    await pool.close()


async def prepared_reads(pool: Pool) -> int:
    """Return how many reads are prepared on both connections."""
    count = "select count(*) from pg_prepared_statements where statement like $1"
    async with pool.acquire() as one, pool.acquire() as other:
        return sum([await conn.fetchval(count, "%as request_tag%") for conn in (one, other)])


async def refused_at(server: TestServer, text: str, role: Role, name: str | None = None) -> list[Any]:
    """Return the places of the only error of a document."""
    body = {"query": text, "operationName": name}
    _, answer = await server.post(body, token=server.token(role, "P1"))
    [error] = answer["errors"]
    return error["locations"]  # type: ignore[no-any-return]


def place(text: str, of: str) -> list[dict[str, int]]:
    """Return the line and column at which something stands in a document."""
    before = re.split(r"\r\n|\n|\r", text[: text.index(of)])
    return [{"line": len(before), "column": len(before[-1]) + 1}]


async def test_names_of_operations_do_not_multiply_statements(small: Pool, host: PluginHost) -> None:
    """A client that names its operations at random has one prepared statement; another document has one more."""
    async with serving(small, host, "maple") as server:
        for n in range(30):
            data = await server.run(LAYOUTS[n % len(LAYOUTS)] % (f"query Random{n * 7919}", "headRevision"))
            assert data == {"headRevision": "0"}
        assert await prepared_reads(small) == 1
        for _ in range(3):
            await server.run("query ($a: Boolean = true) { headRevision @include(if: $a) viewer { role } }")
        assert await prepared_reads(small) == 2


async def test_a_document_seen_once_is_not_prepared(small: Pool, host: PluginHost) -> None:
    """Twenty documents that come once each leave no prepared statement behind."""
    async with serving(small, host, "maple") as server:
        for n in range(20):
            await server.run(f"{{ a{n}: headRevision }}")
        assert await prepared_reads(small) == 0


async def test_errors_tell_the_places_of_the_senders_own_text(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A refused field of a query, a mutation and a subscription stands where the client's own text has it."""
    operations = {
        "query": "headRevision x: plugins { name }",
        "mutation": 'x: cancelBatch(id: "run_1") { run { id } userErrors { code } }',
        "subscription": 'x: batchRun(id: "run_1") { id }',
    }
    async with serving(db, host, "maple") as server:
        for kind, selected in operations.items():
            for n, layout in enumerate(LAYOUTS):
                text = layout % (f"{kind} {'Long' * n * 9}Name{n}", selected)
                if kind != "subscription":
                    assert await refused_at(server, text, Role.GUARDIAN) == place(text, "x:"), text
                    continue
                async with events(server, text, token=server.token(Role.GUARDIAN, "P1")) as response:
                    (_, answer), _ = [event async for event in read_events(response)]
                assert answer["errors"][0]["locations"] == place(text, "x:"), text


async def test_an_invalid_document_is_told_in_its_own_words(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """Texts of one form that is invalid each get the places and the operation's name of their own."""
    async with serving(db, host, "maple") as server:
        for name in ("First", "Second", "First"):
            text = f"query {name}\n{{ {name}: headRevision people(first: $n) {{ edges {{ cursor }} }} }}"
            _, answer = await server.post({"query": text}, token=server.token())
            [error] = answer["errors"]
            assert f"operation '{name}'" in error["message"]
            assert error["locations"][0] == place(text, "$n")[0]


async def test_each_text_has_its_own_names_of_operations(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """`operationName` selects by the names of the text that was sent; names that clash are refused (GraphQL)."""
    parts = "query %s { a: headRevision } query %s { b: headRevision }"
    async with serving(db, host, "maple") as server:

        async def ask(first: str, second: str, name: str | None) -> Any:
            body = {"query": parts % (first, second), "operationName": name}
            headers = {"Accept": MEDIA_TYPE}
            return (await server.post(body, token=server.token(), headers=headers))[1]

        for first, second, name, key in (
            ("A", "B", "A", "a"),
            ("B", "A", "A", "b"),
            ("on", "query", "on", "a"),
        ):
            assert await ask(first, second, name) == {"data": {key: "0"}}
        for first, second, name in (
            ("A", "B", "C"),
            ("A", "B", None),
            ("A", "A", "A"),
            ("", "", None),
            ("A", "", "A"),
        ):
            assert "errors" in await ask(first, second, name), (first, second, name)
        assert await ask("A", "B", "B") == {"data": {"b": "0"}}


async def test_limits_hold_for_every_text_of_a_known_document(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """A text that is too long, or has too many tokens and comments, is refused although its document is known."""
    async with serving(db, host, "maple", max_tokens=50, max_document_characters=1_000) as server:
        known = "{ headRevision }"
        assert await server.run(known) == {"headRevision": "0"}
        for text, words in (
            (known + "\n#" * 60, "50 tokens"),
            (known + " " * 1_000, "longer than 1000 characters"),
            (f"query {'Q' * 1_000} {known}", "longer than 1000 characters"),
        ):
            _, answer = await server.post({"query": text}, token=server.token())
            assert words in answer["errors"][0]["message"]
        assert await server.run(known + "\n#" * 40) == {"headRevision": "0"}


async def test_a_client_that_leaves_while_its_document_is_new(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """Whoever sends new documents and takes each back at once is answered afterwards, and so are the others."""
    async with serving(db, host, "maple") as server, socket(server) as ws:
        await ws.open(server.token())
        for n in range(30):
            fields = " ".join(
                f"c{n}x{part}: people(first: 1) {{ edges {{ node {{ id }} }} }}" for part in range(8)
            )
            await ws.subscribe(str(n), f"{{ {fields} }}")
            await ws.send(type="complete", id=str(n))
        async with asyncio.timeout(PATIENCE):
            assert await server.run("{ d: headRevision }", token=server.token(Role.VENDOR)) == {"d": "0"}
            await ws.subscribe("last", "{ e: headRevision }")
            while (message := await ws.receive())["id"] != "last":
                assert message["type"] in ("next", "complete")
            assert message["payload"] == {"data": {"e": "0"}}
