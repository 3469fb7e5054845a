"""`python -m tests.bench.foreign_lock`: other districts' reads while somebody holds one district's row.

Guardians of one district read their portal page, so many a second whether or not earlier requests have been answered,
first on an idle server, then while a foreign transaction holds another district's row and 24 clients write there, each
again as soon as it is answered. A request is timed from when it was due.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from gql_server.api.auth import Tokens
from gql_server.db.embedded import embedded_postgres
from gql_server.db.pool import connect
from gql_server.db.statements import resource_folder
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.services.sample import make_sample
from tests.bench.live import READ, WRITE, percentile
from tests.bench.load import Answer, fetch_once, http_request, run_load, run_paced
from tests.bench.servers import CODE, KEY, gql_server, make_district, settle, token, wait_for

LOCKED = "locked"
BOUND = 1.5
WRITERS = 24
WARM_UP_SECONDS = 5
PEOPLE = """
select p.person_id, p.source_id from person p join district d using (district_id)
where d.code = $1 and exists (select from contact_point c where c.person_id = p.person_id and c.kind = 'CELL_PHONE')
  and exists (select from relationship r where r.contact_id = p.person_id and r.messenger and r.end_date is null)
order by hashint8extended(p.person_id, 1) limit 500
"""


@dataclass
class Round:
    """The reads of one round, and what the writers were told: a code, or "written"."""

    idle: list[Answer] = field(default_factory=list)
    locked: list[Answer] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


async def make(dsn: str, students: int) -> None:
    await make_district(dsn, students)
    async with connect(dsn) as conn:
        host = PluginHost([resource_folder("plugins")])
        await make_sample(conn, host, code=LOCKED, students=100, seed=2)
    await settle(dsn)


async def requests(port: int, dsn: str) -> tuple[list[bytes], list[bytes]]:
    """Return the reads of one district's guardians, and the writes of the other's administrator."""
    async with connect(dsn) as conn:
        readers, written = [await conn.fetch(PEOPLE, code) for code in (CODE, LOCKED)]

    def post(query: str, variables: object, bearer: str) -> bytes:
        body = orjson.dumps({"query": query, "variables": variables})
        return http_request(port, "/graphql", body, {"Authorization": f"Bearer {bearer}"})

    reads = [
        post(READ, {"id": f"person_{row['person_id']}"}, token(Role.GUARDIAN, row["source_id"]))
        for row in readers
    ]
    admin = Tokens(KEY).issue(LOCKED, Role.ADMIN, None, timedelta(hours=6))
    writes = [
        post(WRITE, {"input": {"personId": f"person_{row['person_id']}", "cells": [_cell(on)]}}, admin)
        for row in written
        for on in (True, False)
    ]
    return reads, writes


def _cell(on: bool) -> dict[str, object]:
    return {"contactPoint": "CELL_PHONE", "method": "VOICE", "reason": "GENERAL", "on": on}


async def read(port: int, reads: Sequence[bytes], rate: float, seconds: float) -> list[Answer]:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    return await run_paced(port, reads, rate=rate, until=stop)


async def keep_writing(
    port: int, writes: Sequence[bytes], first: int, told: list[str], stop: asyncio.Event
) -> None:
    number = first
    await asyncio.sleep(first / WRITERS)  # clients do not come all at once
    while not stop.is_set():
        answer = orjson.loads(await fetch_once(port, writes[number % len(writes)]))
        told.append(answer["errors"][0]["extensions"]["code"] if "errors" in answer else "written")
        number += WRITERS


async def measure(port: int, dsn: str, options: argparse.Namespace) -> list[Round]:
    await wait_for(port)
    reads, writes = await requests(port, dsn)
    for warming in (writes, reads):  # on all connections of the pool
        await run_load(port, warming, connections=16, seconds=WARM_UP_SECONDS)
    rounds = [Round() for _ in range(options.rounds)]
    for each in rounds:
        for _ in range(options.turns):  # in turn, so that what else the machine does is in both
            each.idle += await read(port, reads, options.reads, options.seconds)
            each.locked += await read_beside_writers(port, dsn, reads, writes, options, each.told)
    return rounds


async def read_beside_writers(
    port: int,
    dsn: str,
    reads: Sequence[bytes],
    writes: Sequence[bytes],
    options: argparse.Namespace,
    told: list[str],
) -> list[Answer]:
    """Read while the other district's row is locked; note what its writers are told."""
    stop = asyncio.Event()
    async with connect(dsn) as conn, conn.transaction():
        await conn.fetch("select from district where code = $1 for update", LOCKED)
        writers = [asyncio.create_task(keep_writing(port, writes, n, told, stop)) for n in range(WRITERS)]
        await asyncio.sleep(1.5)
        answers = await read(port, reads, options.reads, options.seconds)
    stop.set()
    await asyncio.gather(*writers)
    return answers


def table(rounds: Sequence[Round]) -> Table:
    shown = Table(title="Reads of a district while another's row is locked and 24 clients write there")
    for heading in ("", "requests", "failed", "p50 ms", "p99 ms", "max ms", "p99 / idle p99", ""):
        shown.add_column(heading, justify="right" if heading else "left")
    for number, each in enumerate(rounds, 1):
        idle = percentile(each.idle, 0.99)
        for name, answers in (("idle", each.idle), ("locked", each.locked)):
            p50, p99, most = (percentile(answers, share) for share in (0.5, 0.99, 1))
            shown.add_row(
                f"{number}, {name}",
                f"{len(answers):,}",
                str(sum(not answer.good for answer in answers)),
                *(f"{seconds * 1000:.1f}" for seconds in (p50, p99, most)),
                f"{p99 / idle:.2f}",
                "" if name == "idle" else "good" if p99 <= BOUND * idle else "MISSED",
            )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=4, help="times that both are measured in a round")
    parser.add_argument("--seconds", type=float, default=6, help="seconds of load each time")
    parser.add_argument("--reads", type=float, default=50, help="reads a second")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-"))
        dsn = stack.enter_context(embedded_postgres(Path(folder), delete=True))
        uvloop.run(make(dsn, options.students))
        port = stack.enter_context(gql_server(dsn)).port
        rounds = uvloop.run(measure(port, dsn, options))
    console = Console()
    console.print(table(rounds))
    told = [code for each in rounds for code in each.told]
    console.print("writes:", ", ".join(f"{told.count(code):,} {code}" for code in sorted(set(told))))


if __name__ == "__main__":
    main()
