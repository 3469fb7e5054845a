"""`python -m tests.bench.live --students N`: the portal while a batch runs over the whole district.

Guardians read their portal page and an administrator sets single people's preferences, so many a second whether or
not earlier requests have been answered, first on an idle server and then while the same server plans and applies runs
that touch the same people. A request is timed from when it was due.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from gql_server.api.client import GraphQLClient
from gql_server.db.embedded import embedded_postgres
from gql_server.db.pool import connect
from gql_server.domain.viewer import Role
from tests.bench.load import Answer, fetch_once, http_request, is_good, run_paced
from tests.bench.servers import Runs, gql_server, make_district, settle, token, wait_for

READ = (Path(__file__).parent.parent / "golden" / "portal.graphql").read_text(encoding="utf-8")
WRITE = """
mutation write($input: SetPreferencesInput!) {
  setPreferences(input: $input) { person { id preferences { contactPoint method on } } userErrors { code } }
}"""
# Spread over the whole district, so that every chunk of a run meets some of them.
PEOPLE = """
select p.person_id, p.source_id from person p
where exists (select from relationship r where r.contact_id = p.person_id and r.messenger and r.end_date is null)
  and exists (select from contact_point c where c.person_id = p.person_id and c.kind = 'CELL_PHONE')
order by hashint8extended(p.person_id, 1) limit 1000
"""
CELLS = ("CELL_PHONE:GENERAL", "CELL_PHONE:ATTENDANCE", "EMAIL:GENERAL", "HOUSEHOLD_PHONE:GENERAL")
POLL_SECONDS = 0.1
WARM_UP_SECONDS = 10
PHASES = ("idle", "planning", "applying")
READ_BOUND, WRITE_BOUND, PROGRESS_BOUND = 3.0, 1.0, 1.0


@dataclass
class Watched:
    """What polling saw of a run: when each phase began (`time.perf_counter`), and when its progress moved."""

    submitted: float
    applying: float = 0
    ended: float = 0
    moves: list[float] = field(default_factory=list)

    @property
    def gaps(self) -> tuple[float, float]:
        """For how many seconds progress stood still at most: while the run was planned, and while it was applied."""
        return self._gap(self.submitted, self.applying), self._gap(self.applying, self.ended)

    def _gap(self, start: float, end: float) -> float:
        marks = [start, *(move for move in self.moves if start < move < end), end]
        return max(after - before for before, after in pairwise(marks))

    def phase(self, answer: Answer) -> str | None:
        """Return the phase in which a request was due."""
        if not self.submitted <= answer.due < self.ended:
            return None
        return "planning" if answer.due < self.applying else "applying"


@dataclass
class Measured:
    """Answers by kind and phase, and the runs that went on meanwhile."""

    reads: dict[str, list[Answer]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    writes: dict[str, list[Answer]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    runs: list[Watched] = field(default_factory=list)
    population: int = 0


async def watch(runs: Runs, to: str) -> tuple[Watched, int]:
    """Submit a run, poll it until it is done and return what was seen and its population."""
    watched = Watched(time.perf_counter())
    run = await runs.submit("STUDENT_CONTACTS", dict.fromkeys(CELLS, to))
    while run["status"] != "DONE":
        await asyncio.sleep(POLL_SECONDS)
        before, run = run["progress"], await runs.look(run["id"])
        if run["status"] == "FAILED":
            raise RuntimeError(f"the run failed: {run['errors']}")
        now = time.perf_counter()
        if run["status"] in ("APPLYING", "DONE"):
            watched.applying = watched.applying or now
        if run["progress"] != before:
            watched.moves.append(now)
    watched.ended = time.perf_counter()
    return watched, run["population"]


async def loads(
    port: int,
    reads: Sequence[bytes],
    writes: Sequence[bytes],
    rates: tuple[float, float],
    stop: asyncio.Event,
) -> tuple[list[Answer], list[Answer]]:
    """Read and write at these rates until told to stop."""
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(run_paced(port, reads, rate=rates[0], until=stop))
        writing = tasks.create_task(run_paced(port, writes, rate=rates[1], until=stop))
    return reading.result(), writing.result()


async def idle(
    port: int, requests: tuple[Sequence[bytes], Sequence[bytes]], rates: tuple[float, float], seconds: float
) -> tuple[list[Answer], list[Answer]]:
    """Load a server that has nothing else to do for so long."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    return await loads(port, *requests, rates, stop)


async def requests_of(port: int, dsn: str) -> tuple[list[bytes], list[bytes]]:
    """Return the reads and the writes to send; only such writes as no rule denies."""
    async with connect(dsn) as conn:
        people = [(row["person_id"], row["source_id"]) for row in await conn.fetch(PEOPLE)]
    reads: list[bytes] = []
    writes: list[bytes] = []
    for number, source_id in people:
        body = orjson.dumps({"query": READ, "variables": {"id": f"person_{number}"}})
        reads.append(http_request(port, "/graphql", body, _bearer(token(Role.GUARDIAN, source_id))))
        on = _write(port, number, on=True)
        if len(writes) < 1000 and is_good(await fetch_once(port, on)):
            writes += [_write(port, number, on=False), on]
    # First everyone off, then everyone on: half of the writes meet what a run has just set otherwise.
    return reads, writes[::2] + writes[1::2]


def _write(port: int, person: int, *, on: bool) -> bytes:
    cells = [
        {"contactPoint": "CELL_PHONE", "method": method, "reason": "GENERAL", "on": on}
        for method in ("VOICE", "TEXT")
    ]
    given = {"input": {"personId": f"person_{person}", "cells": cells}}
    return http_request(
        port, "/graphql", orjson.dumps({"query": WRITE, "variables": given}), _bearer(token())
    )


def _bearer(bearer: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {bearer}"}


async def measure(port: int, dsn: str, options: argparse.Namespace) -> Measured:
    """Load the idle server, then load it while runs go on, one after the other."""
    await wait_for(port)
    requests = await requests_of(port, dsn)
    rates = (options.reads, options.writes)
    measured = Measured()
    await settle(dsn)
    await idle(port, requests, rates, WARM_UP_SECONDS)
    measured.reads["idle"], measured.writes["idle"] = await idle(port, requests, rates, options.idle)
    stop = asyncio.Event()
    loading = asyncio.create_task(loads(port, *requests, rates, stop))
    async with GraphQLClient(f"http://127.0.0.1:{port}/graphql", token()) as client:
        for number in range(options.runs):
            await asyncio.sleep(1)
            watched, measured.population = await watch(Runs(client), ("ON", "OFF")[number % 2])
            measured.runs.append(watched)
    stop.set()
    for answers, phases in zip(await loading, (measured.reads, measured.writes), strict=True):
        for answer in answers:
            for phase in filter(None, (watched.phase(answer) for watched in measured.runs)):
                phases[phase].append(answer)
    return measured


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Return the seconds within which that share of the answers came."""
    ordered = sorted(answer.seconds for answer in answers)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def latencies(measured: Measured, students: int) -> Table:
    table = Table(
        title=f"Portal requests, {students:,} students, {measured.population:,} people in the run, {date.today()}"
    )
    for heading in ("", "requests", "failed", "p50 ms", "p99 ms", "max ms", "p99 / idle p99"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, phases in (("reads", measured.reads), ("writes", measured.writes)):
        for phase, answers in phases.items():
            p99 = percentile(answers, 0.99)
            table.add_row(
                f"{name}, {phase}",
                f"{len(answers):,}",
                str(sum(not answer.good for answer in answers)),
                *(
                    f"{seconds * 1000:.1f}"
                    for seconds in (percentile(answers, 0.5), p99, percentile(answers, 1))
                ),
                f"{p99 / percentile(phases['idle'], 0.99):.2f}",
            )
    return table


def bounds(measured: Measured) -> Table:
    """Return what must be reached beside what was."""
    applying = percentile(measured.reads["applying"], 0.99)
    reached = (
        ("reads: p99 while applying / idle", applying / percentile(measured.reads["idle"], 0.99), READ_BOUND),
        ("writes: p99 while applying, s", percentile(measured.writes["applying"], 0.99), WRITE_BOUND),
        *(
            (f"progress stood still {where}, s", max(gaps), PROGRESS_BOUND)
            for where, gaps in zip(
                ("while planning", "while applying"),
                zip(*(run.gaps for run in measured.runs), strict=True),
                strict=True,
            )
        ),
    )
    table = Table("", "reached", "at most", "")
    for name, value, bound in reached:
        table.add_row(name, f"{value:.2f}", f"{bound:.2f}", "good" if value <= bound else "MISSED")
    spent = [(run.applying - run.submitted, run.ended - run.applying) for run in measured.runs]
    table.add_row("median seconds planning", f"{statistics.median(plan for plan, _ in spent):.1f}")
    table.add_row("median seconds applying", f"{statistics.median(apply for _, apply in spent):.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=500_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--idle", type=float, default=15, help="seconds of load without a run")
    parser.add_argument("--reads", type=float, default=50, help="reads a second")
    parser.add_argument("--writes", type=float, default=5, help="writes a second")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-"))
        dsn = stack.enter_context(embedded_postgres(Path(folder), delete=True))
        uvloop.run(make_district(dsn, options.students))
        port = stack.enter_context(gql_server(dsn)).port
        measured = uvloop.run(measure(port, dsn, options))
    console = Console()
    console.print(latencies(measured, options.students))
    console.print(bounds(measured))


if __name__ == "__main__":
    main()
