"""`python -m tests.bench.reads`: reads over HTTP, answered by the product and by others from the same database.

The portal query (one person, their household, its four members and everyone's preferences) is answered by a bare
handler with the same SQL statement and no GraphQL, by the product, by PostGraphile, and by Strawberry with DataLoaders;
`node` and a page of 100 people with their preferences by the product and PostGraphile. One process a server, 16
connections; the portal query with 64 too. PostGraphile is left out where it is not installed: see
`tests/bench/postgraphile/README.md`. Equal answers are asserted first.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.table import Table

from gql_server.db.embedded import embedded_postgres
from gql_server.db.pool import connect
from gql_server.domain.sql import numbered
from gql_server.domain.viewer import Role
from tests.bench.load import Load, fetch_once, http_request, run_load
from tests.bench.measure import ROUNDS, Results, postmaster, print_tables, results_table, take_turns, versions
from tests.bench.peer import PostGraphile, installed_postgraphile
from tests.bench.servers import KEY, Server, free_port, make_district, process, token, wait_for
from tests.support.graph import compile_document

PORTAL = (Path(__file__).parent.parent / "golden" / "portal.graphql").read_text(encoding="utf-8")
NODE = "query Node($id: ID!) { node(id: $id) { ... on Person { id firstName lastName } } }"
PAGE = """query Page {
  people(first: 100) {
    edges { node { id firstName lastName preferences { contactPoint method value on } } }
    pageInfo { hasNextPage }
  }
}"""
BARE, PRODUCT, PEER, LOADERS = "bare", "gql-server", "PostGraphile", "DataLoaders"
PEOPLE = """
select p.person_id from person p
join household_member m on m.district_id = p.district_id and m.person_id = p.person_id
where exists (select from relationship r where r.district_id = p.district_id and r.contact_id = p.person_id)
group by p.district_id, p.person_id
having count(*) = 1 and (select count(*) from household_member o
  where o.district_id = p.district_id and o.household_id = min(m.household_id)) = 4
order by p.person_id limit 500
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of read under one load. requests: of each server that answers it, in turn."""

    name: str
    connections: int
    requests: Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Measured:
    """The turns of a scenario, and what each of them told of its latencies, by server."""

    scenario: Scenario
    results: Results
    loads: Mapping[str, list[Load]]


def compiled_portal() -> tuple[str, list[str]]:
    """Return the statement of the portal query as asyncpg takes it, and its parameters' names."""
    text, names = numbered(compile_document(PORTAL, Role.ADMIN, {"id": "person_1"}).text)
    return text, [name.split("__")[-1] for name in names]


async def prepare(dsn: str, students: int) -> dict[str, Any]:
    """Make the sample and return what the compared servers are given, and the people to ask for."""
    await make_district(dsn, students)
    async with connect(dsn) as conn:
        people = [row["person_id"] for row in await conn.fetch(PEOPLE)]
        bits = {
            r["code"]: r["bit"] for r in await conn.fetch("select code, bit from contact_reason order by bit")
        }
        district = await conn.fetchval("select district_id from district")
        await conn.execute("vacuum analyze")
    statement, names = compiled_portal()
    fixed = {
        "district_id": district,
        "viewer_source_id": None,
        "active_only": True,
        "answer_bytes": 1 << 24,
        "request": 0,
    }
    return {"people": people, "bits": bits, "statement": statement, "names": names, "fixed": fixed}


def scenarios(servers: Mapping[str, Server], people: Sequence[int]) -> list[Scenario]:
    """Return what is measured, with the requests of every server."""
    headers = {"Authorization": f"Bearer {token()}"}

    def requests(query: str, peer_query: str, variables: Sequence[tuple[Any, Any]]) -> dict[str, list[bytes]]:
        """Variables are given twice: in the product's form and in PostGraphile's."""
        found = {}
        for name, server in servers.items():
            asked = peer_query if name == PEER else query
            values = [given[name == PEER] for given in variables]
            bodies = [orjson.dumps({"query": asked, "variables": each}) for each in values]
            found[name] = [http_request(server.port, "/graphql", body, headers) for body in bodies]
        return found

    ids = [({"id": f"person_{n}"}, {"id": str(n)}) for n in people]
    portal = requests(PORTAL, PostGraphile.PORTAL, ids)
    both = [name for name in (PRODUCT, PEER) if name in servers]
    node, page = (
        {name: each for name, each in requests(*given).items() if name in both}
        for given in ((NODE, PostGraphile.NODE, ids), (PAGE, PostGraphile.PAGE, [({}, {})]))
    )
    return [
        Scenario("portal", 16, portal),
        Scenario("portal, 64 connections", 64, {name: portal[name] for name in both}),
        Scenario("node", 16, node),
        Scenario("page of 100", 16, page),
    ]


async def require_equal_answers(servers: Mapping[str, Server], given: Sequence[Scenario]) -> None:
    """Raise RuntimeError unless all servers give the same data. The order of a person's channels does not count."""
    for scenario in given:
        for number in range(min(5, len(scenario.requests[PRODUCT]))):
            answers = {
                name: normalised(orjson.loads(await fetch_once(servers[name].port, requests[number]))["data"])
                for name, requests in scenario.requests.items()
            }
            for name, answer in answers.items():
                # DataLoaders have no values of household phones, and no order of reasons: they are a rough measure.
                if name != LOADERS and answer != answers[PRODUCT]:
                    raise RuntimeError(f"{name} does not answer `{scenario.name}` like the product")


def normalised(data: Any) -> Any:
    """Return data with its lists sorted, and in no order of keys."""
    if isinstance(data, dict):
        return {key: normalised(data[key]) for key in sorted(data)}
    if isinstance(data, list):
        return sorted((normalised(each) for each in data), key=orjson.dumps)
    return data


async def measure(
    servers: Mapping[str, Server], dsn: str, people: Sequence[int], rounds: int, seconds: float
) -> list[Measured]:
    """Warm the servers up, look whether they answer the same, and load them in turn."""
    given = scenarios(servers, people)
    for name, server in servers.items():
        await wait_for(server.port)
        await run_load(server.port, given[0].requests[name], connections=16, seconds=2)
    await require_equal_answers(servers, given)
    async with connect(dsn) as conn:
        roots = {"PostgreSQL": await postmaster(conn)} | {name: each.pid for name, each in servers.items()}
    return [await _measure(scenario, servers, roots, rounds, seconds) for scenario in given]


async def _measure(
    scenario: Scenario, servers: Mapping[str, Server], roots: Mapping[str, int], rounds: int, seconds: float
) -> Measured:
    loads: dict[str, list[Load]] = {name: [] for name in scenario.requests}

    async def turn(name: str) -> int:
        load = await run_load(
            servers[name].port, scenario.requests[name], connections=scenario.connections, seconds=seconds
        )
        loads[name].append(load)
        return load.requests

    contestants = {name: partial(turn, name) for name in scenario.requests}
    for run in contestants.values():
        await run()  # each document is parsed and planned before its first round
    for each in loads.values():
        each.clear()
    return Measured(scenario, await take_turns(contestants, rounds=rounds, processes=roots), loads)


def report(measured: Measured) -> Table:
    """Return the table of one scenario. The processor time is that of one request."""
    scenario, results = measured.scenario, measured.results
    others = [name for name in (BARE, PEER, LOADERS) if name in scenario.requests]
    table = results_table(
        scenario.name,
        "req/s",
        "p50 ms",
        "p99 ms",
        "cpu ms",
        "PG cpu",
        *(f"× {_short(each)}" for each in others),
    )
    for name in scenario.requests:
        loads = measured.loads[name]
        table.add_row(
            name,
            f"{results.rate(name):,.0f}",
            f"{statistics.median(load.p50 for load in loads):.1f}",
            f"{statistics.median(load.p99 for load in loads):.1f}",
            f"{results.cpu(name, name):.2f}",
            f"{results.cpu(name, 'PostgreSQL'):.2f}",
            *(f"{results.rate(name) / results.rate(each):.2f}" for each in others),
        )
    return table


def _short(name: str) -> str:
    return {BARE: "bare", PEER: "PostGr.", LOADERS: "loaders"}[name]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=4, help="length of a turn")
    parser.add_argument("--workers", type=int, default=1, help="processes of the product")
    options = parser.parse_args()
    peer = installed_postgraphile()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-"))
        dsn = stack.enter_context(embedded_postgres(Path(folder), delete=True))
        given = uvloop.run(prepare(dsn, options.students))
        people = given.pop("people")
        names = [BARE, PRODUCT, *([PEER] if peer else []), LOADERS]
        ports = {name: free_port() for name in names}
        env = {"BENCH_GIVEN": orjson.dumps(given).decode()}
        settings = {
            "GQL_SERVER_DATABASE_URL": dsn,
            "GQL_SERVER_SIGNING_KEY": KEY,
            "GQL_SERVER_PORT": str(ports[PRODUCT]),
            "GQL_SERVER_WORKERS": str(options.workers),
        }
        started = {
            BARE: process(["tests.bench.portal_servers", "bare", dsn, str(ports[BARE])], env),
            LOADERS: process(["tests.bench.portal_servers", "dataloaders", dsn, str(ports[LOADERS])], env),
            PRODUCT: process(["gql_server", "serve"], settings),
        }
        if peer is not None:
            uvloop.run(peer.make_views(dsn))
            started[PEER] = peer.process(dsn, ports[PEER])
        servers = {name: Server(stack.enter_context(started[name]).pid, ports[name]) for name in names}
        measured = uvloop.run(measure(servers, dsn, people, options.rounds, options.seconds))
    print_tables(
        [
            *(report(each) for each in measured),
            versions("asyncpg", "strawberry-graphql", "uvloop"),
            f"PostGraphile {peer.version}, Node {peer.node_version}"
            if peer
            else "PostGraphile is left out: tests/bench/postgraphile/README.md says what it needs.",
        ]
    )


if __name__ == "__main__":
    main()
