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
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Round:
    """The reads of one round, and the codes that the writers were answered with."""

    idle: Sequence[Answer]
    locked: Sequence[Answer]
    writes: Sequence[str]


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
    await run_load(
        port, reads, connections=16, seconds=WARM_UP_SECONDS
    )  # all connections of the pool are used
    rounds = []
    for _ in range(options.rounds):
        idle = await read(port, reads, options.reads, options.seconds)
        told: list[str] = []
        stop = asyncio.Event()
        async with connect(dsn) as conn, conn.transaction():
            await conn.fetch("select from district where code = $1 for update", LOCKED)
            writers = [asyncio.create_task(keep_writing(port, writes, n, told, stop)) for n in range(WRITERS)]
            await asyncio.sleep(1.5)
            locked = await read(port, reads, options.reads, options.seconds)
        stop.set()
        await asyncio.gather(*writers)
        rounds.append(Round(idle, locked, told))
    return rounds


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
    parser.add_argument("--seconds", type=float, default=15, help="seconds of load in each phase")
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
    told = [code for each in rounds for code in each.writes]
    console.print("writes:", ", ".join(f"{told.count(code):,} {code}" for code in sorted(set(told))))


if __name__ == "__main__":
    main()
