"""`python -m tests.bench.documents`: many distinct documents in turn, compared with one.

All documents are the portal's query; they differ in one alias, so that each costs the same work. 16 connections. Beside
rates: the private memory of PostgreSQL's processes for the server, and how long the event loop stands still while as
many new documents arrive, each as large as an administrator's may be.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson
import uvloop
from rich.table import Table

from gql_server.db.embedded import embedded_postgres
from gql_server.db.pool import connect
from gql_server.db.protocols import Connection
from tests.bench.load import Load, fetch_once, http_request, run_load
from tests.bench.measure import Results, postmaster, print_tables, results_table, take_turns
from tests.bench.reads import PEOPLE, PORTAL
from tests.bench.servers import Server, gql_server, make_district, token, wait_for

ONE, MANY = "one document", "distinct ones"
_SELECTED = PORTAL[PORTAL.index("firstName") : PORTAL.rindex("}", 0, PORTAL.rindex("}"))]
"""What the query selects of a person."""
_CONNECTIONS = 16
_WARM_UP = 10
"""How often each document is sent before it is measured. PostgreSQL keeps a plan from the sixth execution on."""
_PARTS_OF_LARGE = 4
"""How many times an administrator may ask for what the portal asks, before the price is too high."""


@dataclass(frozen=True, slots=True)
class Requests:
    """One document with many variables, each distinct document, and large documents that nobody has sent before."""

    one: Sequence[bytes]
    many: list[bytes]
    large: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Stalls:
    """How long a request that needs neither the database nor a document waited, in milliseconds."""

    median: float
    longest: float


def requests(port: int, people: Sequence[int], documents: int) -> Requests:
    headers = {"Authorization": f"Bearer {token()}"}

    def request(query: str, person: int) -> bytes:
        body = {"query": query, "variables": {"id": f"person_{person}"}}
        return http_request(port, "/graphql", orjson.dumps(body), headers)

    def person(number: int) -> int:
        return people[number % len(people)]

    distinct = [PORTAL.replace("firstName", f"a{n}: firstName", 1) for n in range(documents)]
    large = [
        "query ($id: ID!) {"
        + " ".join(f"b{n}x{part}: person(id: $id) {{ {_SELECTED} }}" for part in range(_PARTS_OF_LARGE))
        + "}"
        for n in range(documents)
    ]
    return Requests(
        [request(distinct[0], person(n)) for n in range(documents)],
        [request(document, person(n)) for n, document in enumerate(distinct)],
        [request(document, person(n)) for n, document in enumerate(large)],
    )


async def private_memory(conn: Connection) -> float:
    """Return how many MiB of memory the processes for the server's connections have for themselves."""
    rows = await conn.fetch("select pid from pg_stat_activity where application_name = 'gql-server'")
    own = await conn.fetchval("select pg_backend_pid()")
    return sum(_private_kib(row["pid"]) for row in rows if row["pid"] != own) / 1024


def _private_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))


async def stalls_until(port: int, ended: asyncio.Event) -> Stalls:
    """Ask for /healthz again and again until something has ended."""
    request = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    waited = []
    while not ended.is_set():
        start = time.perf_counter()
        writer.write(request)
        await reader.readuntil(b"}")
        waited.append((time.perf_counter() - start) * 1000)
        await asyncio.sleep(0.002)
    writer.close()
    return Stalls(statistics.median(waited), max(waited))


async def send_all(port: int, given: Sequence[bytes]) -> None:
    """Send each request once, over as many connections as the load has. Raises RuntimeError for a refusal."""
    waiting = iter(given)

    async def send() -> None:
        for request in waiting:
            answer = await fetch_once(port, request)
            if b'"errors"' in answer:
                raise RuntimeError(f"a document is refused: {answer[-500:].decode()}")

    await asyncio.gather(*(send() for _ in range(_CONNECTIONS)))


async def stalls_while(port: int, given: Sequence[bytes]) -> Stalls:
    """Return the stalls while requests arrive."""
    ended = asyncio.Event()
    probe = asyncio.create_task(stalls_until(port, ended))
    await send_all(port, given)
    ended.set()
    return await probe


async def require_equal_answers(port: int, given: Requests) -> None:
    """Raise RuntimeError unless distinct documents give what the one gives, but for the alias."""
    for number in range(0, len(given.many), 37):
        one, many = [await fetch_once(port, each[number]) for each in (given.one, given.many)]
        if b'"errors"' in many or re.sub(rb'"a\d+"', b'"a0"', many) != one:
            raise RuntimeError("distinct documents do not answer like the one")


async def measure(server: Server, dsn: str, documents: int, rounds: int, seconds: float) -> list[Table | str]:
    await wait_for(server.port)
    async with connect(dsn) as conn:
        given = requests(server.port, [row["person_id"] for row in await conn.fetch(PEOPLE)], documents)
        processes = {"server": server.pid, "PostgreSQL": await postmaster(conn)}
        loads: dict[str, list[Load]] = {ONE: [], MANY: []}

        async def turn(name: str, sent: Sequence[bytes]) -> int:
            load = await run_load(server.port, sent, connections=_CONNECTIONS, seconds=seconds)
            loads[name].append(load)
            return load.requests

        contestants: Mapping[str, Callable[[], object]]
        contestants = {ONE: partial(turn, ONE, given.one), MANY: partial(turn, MANY, given.many)}
        await require_equal_answers(server.port, given)
        memory = {"at first": await private_memory(conn)}
        await turn(ONE, given.one)
        memory["after one document"] = await private_memory(conn)
        await send_all(server.port, given.many * _WARM_UP)
        for each in loads.values():
            each.clear()
        results = await take_turns(contestants, rounds=rounds, processes=processes)  # type: ignore[arg-type]
        memory[f"after {documents} documents"] = await private_memory(conn)
        quiet = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, quiet.set)
        stalls = {
            "quiet": await stalls_until(server.port, quiet),
            f"{documents} new large documents": await stalls_while(server.port, given.large),
        }
        memory[f"after {documents} large documents"] = await private_memory(conn)
    return [report(results, loads), *report_memory(memory), report_stalls(stalls)]


def report(results: Results, loads: Mapping[str, Sequence[Load]]) -> Table:
    table = results_table("The portal query", "req/s", "p50 ms", "p99 ms", "cpu ms", "PG cpu", "× one")
    for name, each in loads.items():
        table.add_row(
            name,
            f"{results.rate(name):,.0f}",
            f"{statistics.median(load.p50 for load in each):.1f}",
            f"{statistics.median(load.p99 for load in each):.1f}",
            f"{results.cpu(name, 'server'):.2f}",
            f"{results.cpu(name, 'PostgreSQL'):.2f}",
            f"{results.rate(name) / results.rate(ONE):.2f}",
        )
    p99 = {name: statistics.median(load.p99 for load in each) for name, each in loads.items()}
    table.add_row("p99 of distinct ones, × one", "", "", f"{p99[MANY] / p99[ONE]:.1f}", "", "", "")
    return table


def report_memory(memory: Mapping[str, float]) -> list[str]:
    lines = [f"  {when}: {size:,.0f} MiB" for when, size in memory.items()]
    return ["", "Private memory of PostgreSQL's processes for the server", *lines, ""]


def report_stalls(stalls: Mapping[str, Stalls]) -> Table:
    table = results_table("How long /healthz waited", "p50 ms", "longest ms")
    for name, each in stalls.items():
        table.add_row(name, f"{each.median:.1f}", f"{each.longest:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=5_000)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="length of a round")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-"))
        dsn = stack.enter_context(embedded_postgres(Path(folder), delete=True))
        uvloop.run(make_district(dsn, options.students))
        server = stack.enter_context(gql_server(dsn))
        tables = uvloop.run(measure(server, dsn, options.documents, options.rounds, options.seconds))
    print_tables(tables)


if __name__ == "__main__":
    main()
