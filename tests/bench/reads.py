"""`python -m tests.bench.reads`: a portal's query, answered by the product, by a bare handler, and by DataLoaders.

One person, their household, its four members and everyone's preferences; 16 connections, one process a server, the
same database. The three take turns, so that a machine whose speed drifts drifts for all.
"""

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from gql_server.db.embedded import embedded_postgres
from gql_server.db.pool import connect
from gql_server.domain.sql import numbered
from gql_server.domain.viewer import Role
from tests.bench.load import Load, fetch_once, http_request, run_load
from tests.bench.servers import KEY, free_port, make_district, process, token, wait_for
from tests.support.graph import compile_document

QUERY = (Path(__file__).parent.parent / "golden" / "portal.graphql").read_text(encoding="utf-8")
SERVERS = ("bare handler", "gql-server", "DataLoaders")
PEOPLE = """
select p.person_id from person p
join household_member m on m.district_id = p.district_id and m.person_id = p.person_id
where exists (select from relationship r where r.district_id = p.district_id and r.contact_id = p.person_id)
group by p.district_id, p.person_id
having count(*) = 1 and (select count(*) from household_member o
  where o.district_id = p.district_id and o.household_id = min(m.household_id)) = 4
order by p.person_id limit 500
"""


def compiled_portal() -> tuple[str, list[str]]:
    """Return the statement of the query as asyncpg takes it, and its parameters' names."""
    text, names = numbered(compile_document(QUERY, Role.ADMIN, {"id": "person_1"}).text)
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
    statement, names = compiled_portal()
    fixed = {
        "district_id": district,
        "viewer_source_id": None,
        "active_only": True,
        "answer_bytes": 1 << 24,
        "request": 0,
    }
    return {"people": people, "bits": bits, "statement": statement, "names": names, "fixed": fixed}


async def measure(
    ports: dict[str, int], people: list[int], rounds: int, seconds: float
) -> dict[str, list[Load]]:
    """Load the servers in turn, after a warm-up and a look whether they answer the same."""
    headers = {"Authorization": f"Bearer {token()}"}
    bodies = [orjson.dumps({"query": QUERY, "variables": {"id": f"person_{n}"}}) for n in people]
    loads: dict[str, list[Load]] = {name: [] for name in SERVERS}
    requests = {
        name: [http_request(port, "/graphql", body, headers) for body in bodies]
        for name, port in ports.items()
    }
    for name, port in ports.items():
        await wait_for(port)
        await run_load(port, requests[name], connections=16, seconds=2)
    answers = [orjson.loads(await fetch_once(ports[name], requests[name][0])) for name in SERVERS]
    if answers[0] != answers[1] or len(str(answers[2])) < 0.8 * len(str(answers[1])):
        raise RuntimeError("the servers do not answer the same")
    for _ in range(rounds):
        for name, port in ports.items():
            loads[name].append(await run_load(port, requests[name], connections=16, seconds=seconds))
    return loads


def report(loads: dict[str, list[Load]]) -> Table:
    medians = {name: statistics.median(load.rate for load in each) for name, each in loads.items()}
    table = Table(
        title=f"The portal query, 16 connections, median of {len(loads['gql-server'])} rounds, {date.today()}"
    )
    for heading in ("", "requests/s", "p50 ms", "p99 ms", "of the bare handler", "times DataLoaders"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, each in loads.items():
        table.add_row(
            name,
            f"{medians[name]:,.0f}",
            f"{statistics.median(load.p50 for load in each):.1f}",
            f"{statistics.median(load.p99 for load in each):.1f}",
            f"{medians[name] / medians['bare handler']:.2f}",
            f"{medians[name] / medians['DataLoaders']:.2f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="length of a round")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-"))
        dsn = stack.enter_context(embedded_postgres(Path(folder), delete=True))
        given = uvloop.run(prepare(dsn, options.students))
        people = given.pop("people")
        ports = {name: free_port() for name in SERVERS}
        env = {"BENCH_GIVEN": orjson.dumps(given).decode()}
        for kind, name in (("bare", "bare handler"), ("dataloaders", "DataLoaders")):
            stack.enter_context(process(["tests.bench.portal_servers", kind, dsn, str(ports[name])], env))
        settings = {
            "GQL_SERVER_DATABASE_URL": dsn,
            "GQL_SERVER_SIGNING_KEY": KEY,
            "GQL_SERVER_PORT": str(ports["gql-server"]),
        }
        stack.enter_context(process(["gql_server", "serve"], settings))
        loads = uvloop.run(measure(ports, people, options.rounds, options.seconds))
    Console().print(report(loads))


if __name__ == "__main__":
    main()
