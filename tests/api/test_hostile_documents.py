"""Documents made to be costly before anything is read: each is refused with words, over every transport, at once."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from graphql import get_introspection_query

from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving
from tests.support.ws import PATIENCE, events, read_events, socket

pytestmark = pytest.mark.slow

MEDIA_TYPE = "application/graphql-response+json"
CODES = {"GRAPHQL_VALIDATION_FAILED", "QUERY_TOO_EXPENSIVE"}


@pytest.fixture
async def server(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[TestServer]:
    async with serving(db, host, "maple") as server:
        yield server


def chain(levels: int, body: str, last: str = "id", on: str = "Person") -> str:
    """Return fragments F0, F1, ... of which each is `body` with the next one's spread in place of `%`."""
    texts = [f"fragment F{n} on {on} {{ {body.replace('%', f'...F{n + 1}')} }}" for n in range(levels)]
    return " ".join([*texts, f"fragment F{levels} on {on} {{ {last} }}"])


def each_spreads(pairs: Iterable[tuple[int, Iterable[int]]]) -> str:
    """Return fragments of which each spreads others, by number."""
    return " ".join(
        f"fragment F{n} on Person {{ id {' '.join(f'...F{m}' for m in others)} }}" for n, others in pairs
    )


ME = "{ viewer { person { ...F0 } } }"
LINKS = "students { student { % } } contacts { student { % } }"
LONG = 400_000
HOSTILE = {
    "links doubled at each level": f"{ME} {chain(16, LINKS)}",
    "one level deeper than allowed": f"{ME} {chain(5, LINKS)}",
    "a spread doubled at each level": f"{ME} {chain(60, '% %')}",
    "a subscription's spread doubled": "subscription { ...F0 } "
    + chain(20, "% %", 'batchRun(id: "run_1") { id }', "Subscription"),
    "doubled without an operation": chain(60, "% %"),
    "every fragment spreads all after it": f"{ME} {each_spreads((n, range(n + 1, 25)) for n in range(25))}",
    "every fragment spreads every fragment": f"{ME} {each_spreads((n, range(16)) for n in range(16))}",
    "two fragments that spread each other": f"{ME} {each_spreads([(0, [1]), (1, [0])])}",
    "a fragment within itself": f"{ME} {each_spreads([(0, [0])])}",
    "an unknown fragment": "{ viewer { ...nowhere } }",
    "an unknown fragment at the top": "{ ...nowhere }",
    "a thousand typenames": f"{{ {'__typename ' * 990}}}",
    "a field again and again": f"{{ viewer {{ person {{ {'id ' * 980}}} }} }}",
    "links again and again": f"{{ viewer {{ person {{ {'students { student { id } } ' * 120}}} }} }}",
    "lists in links again and again": "{ viewer { person { "
    + f"students {{ {'student { id } ' * 5}}} " * 40
    + "} } }",
    "links within links again and again": "{"
    + "viewer { person { students { student { id contacts { contact { id } } } } } } " * 40
    + "}",
    "the same argument again and again": "{ " + 'person(id: "a") { id } ' * 110 + "}",
    "unknown fields of an input": "{ people(filter: {"
    + " ".join(f"a{n}: 1" for n in range(319))
    + "}) { __typename } }",
    "fragments beside each other": f"{{ viewer {{ person {{ {' '.join(f'...G{n}' for n in range(60))} }} }} }} "
    + " ".join(f"fragment G{n} on Person {{ students {{ student {{ id }} }} }}" for n in range(60)),
    "aliases": f"{{ viewer {{ {' '.join(f'a{n}: role' for n in range(300))} }} }}",
    "aliases in a fragment": f"{ME} {chain(3, '% %', 'a: id b: id')}",
    "operations beyond counting": " ".join(f"query q{n} {{ ...F0 }}" for n in range(60))
    + " "
    + chain(6, "% %", "viewer { role }", "Query"),
    "inline fragments in each other": f"{{ viewer {{ {'... { ' * 400}role{' }' * 400} }} }}",
    "a deep list": f'{{ batchOptions(mode: "X", scope: {{ grades: {"[" * 400}{"]" * 400} }}) {{ population }} }}',
    "deeper than any stack": "{ viewer" * 450,
    "a directive again and again": f"{{ viewer {'@include(if: true) ' * 120}{{ role }} }}",
    "variables": f"query ({' '.join(f'$v{n}: Int' for n in range(240))}) {{ viewer {{ role }} }}",
    "undefined variables": "{ "
    + " ".join(f"people(first: $v{n}) {{ __typename }}" for n in range(70))
    + " }",
    "a long string": f'{{ person(id: "{"x" * LONG}") {{ id }} }}',
    "a long name": f"{{ {'x' * LONG} }}",
    "a long alias": f"{{ {'x' * LONG}: headRevision }}",
    "a long comment": f"#{'x' * LONG}\n{{ headRevision x }}",
    "a long number": f"{{ people(first: {'9' * LONG}) {{ __typename }} }}",
    "long lines of a block": f'{{ person(id: """{chr(10) * LONG}""") {{ id }} }}',
    "a space that looks like a suggestion": f'{{ people(first: "{" " * 49_000}") {{ __typename }} }}',
}


def refused(answer: object) -> bool:
    """Tell whether an answer refuses a document as it should: code and words, none of them longer than a few lines."""
    assert isinstance(answer, dict)
    errors = answer["errors"]
    assert isinstance(errors, list)
    assert set(answer) == {"errors"}, answer
    for error in errors:
        assert error["extensions"]["code"] in CODES, error
        assert 10 < len(error["message"]) <= 500, error
        assert error["message"].endswith((".", "…")), error
        assert (
            "abort" not in error["message"].lower() or "Syntax Error" in error["message"] or len(errors) > 1
        )
    return 0 < len(errors) <= 6


async def test_a_hostile_document_is_refused_with_words(server: TestServer) -> None:
    """What would cost the checks themselves time or memory is a validation error in a 400, never a 500 or a wait."""
    for name, document in HOSTILE.items():
        async with asyncio.timeout(PATIENCE):
            status, answer = await server.post(
                {"query": document}, token=server.token(), headers={"Accept": MEDIA_TYPE}
            )
        assert (status, refused(answer)) == (400, True), (name, answer)


async def test_it_is_refused_over_websockets_and_events(server: TestServer) -> None:
    """A WebSocket answers each hostile document with `error` and stays open; a stream of events gives one event."""
    async with socket(server) as ws:
        await ws.open(server.token())
        for name, document in HOSTILE.items():
            if len(document) < 100_000:
                await ws.subscribe(name, document)
                (errors,) = await ws.payloads(name)
                assert refused({"errors": errors}), errors
        await ws.subscribe("last", "{ viewer { role } }")
        assert await ws.payloads("last") == [{"data": {"viewer": {"role": "ADMIN"}}}]
    for document in HOSTILE.values():
        async with events(server, document) as response, asyncio.timeout(PATIENCE):
            (name, answer), last = [event async for event in read_events(response)]
        assert (name, last) == ("next", ("complete", None))
        assert refused(answer), answer


async def test_the_schema_is_told_whole_but_not_again_and_again(server: TestServer) -> None:
    """What tools ask of the schema is answered; types within types within types are refused, and so beside data."""
    usual = get_introspection_query(
        input_value_deprecation=True, specified_by_url=True, schema_description=True
    )
    introspected = await server.run(usual)
    assert {"Query", "Person"} <= {each["name"] for each in introspected["__schema"]["types"]}
    told = await server.run('{ __type(name: "Person") { isOneOf fields { type { kind isOneOf } } } }')
    assert told["__type"]["isOneOf"] is None
    assert {each["type"]["isOneOf"] for each in told["__type"]["fields"]} == {None}
    deep = (
        "fields { name type { ofType { kind } fields { name args { name type { enumValues { name } } } } } }"
    )
    again = " ".join(f"a{n}: types {{ {deep} }}" for n in range(15))
    for bomb in (
        f"{{ __schema {{ {again} }} }}",
        f"{{ headRevision __schema {{ queryType {{ name }} {again} }} }}",
    ):
        async with asyncio.timeout(PATIENCE):
            _, answer = await server.post({"query": bomb}, token=server.token())
        (error,) = answer["errors"]
        assert error["extensions"]["code"] == "QUERY_TOO_EXPENSIVE", error
        assert "of the schema itself" in error["message"]


async def test_what_is_within_the_bounds_is_valid(server: TestServer) -> None:
    """The bounds refuse nothing that they say they allow: such a document is not refused as invalid."""
    allowed = {
        "as deep as allowed": f"{ME} {chain(4, LINKS)}",
        "as large as allowed": f"{ME} {chain(8, '% %')}",
        "as many aliases as allowed": f"{{ viewer {{ {' '.join(f'a{n}: role' for n in range(15))} }} }}",
        "a chain of fragments": f"{ME} {chain(90, '%')}",
    }
    for name, document in allowed.items():
        _, answer = await server.post({"query": document}, token=server.token())
        codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
        assert "GRAPHQL_VALIDATION_FAILED" not in codes, (name, answer)
