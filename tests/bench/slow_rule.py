"""`python -m tests.bench.slow_rule --students N`: the portal while a slow rule in Python is asked about a district.

The server has a plug-in whose check takes as long over each chunk as it is told to: it awaits, blocks its thread, or
computes. The portal's load is that of `tests.bench.live`, first on an idle server, then while a run is planned without
the rule and with each kind of it. Beside it go pings, which need no database: the slowest tells for how long at most
the server's event loop stood still.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from gql_server.api.client import GraphQLClient
from gql_server.db.embedded import embedded_postgres
from tests.bench.live import WARM_UP_SECONDS, percentile, requests_of
from tests.bench.load import Answer, http_request, run_paced
from tests.bench.servers import Runs, gql_server, make_district, settle, token, until_up

IDLE, PLAIN = "idle", "planning, no rule"
# The reason that a run sets says which check it is for: one server, one plug-in, one run after the other.
KINDS = {
    PLAIN: "EMERGENCY",
    "planning, the rule awaits": "ATTENDANCE",
    "planning, the rule blocks": "BEHAVIOR",
    "planning, the rule computes": "PRIORITY",
}
POINTS = ("CELL_PHONE", "EMAIL")
PLUGIN = '''
"""A check that is slow in the way that the run's reason tells."""

import asyncio
import time

from gql_server.hooks import Context, Rule, Verdict, hookimpl

SECONDS = {seconds}


async def awaits(candidates, reader):
    await asyncio.sleep(SECONDS)
    return [Verdict.ALLOW] * len(candidates)


async def blocks(candidates, reader):
    time.sleep(SECONDS)
    return [Verdict.ALLOW] * len(candidates)


async def computes(candidates, reader):
    end = time.thread_time() + SECONDS
    while time.thread_time() < end:
        sum(range(1000))
    return [Verdict.ALLOW] * len(candidates)


CHECKS = {{"ATTENDANCE": awaits, "BEHAVIOR": blocks, "PRIORITY": computes}}


@hookimpl
def eligibility_rules(request):
    if request.context is not Context.BATCH or request.cells[0].reason not in CHECKS:
        return []
    return [Rule("slow", "It is slow.", check=CHECKS[request.cells[0].reason])]
'''
KINDS_OF_REQUEST = ("reads", "writes", "pings")


@dataclass
class Measured:
    """Answers by kind of request and phase, and the seconds that each plan took."""

    answers: dict[str, dict[str, list[Answer]]] = field(
        default_factory=lambda: {kind: {phase: [] for phase in (IDLE, *KINDS)} for kind in KINDS_OF_REQUEST}
    )
    seconds: dict[str, list[float]] = field(default_factory=lambda: {phase: [] for phase in KINDS})
    population: int = 0


async def loads(
    port: int, requests: Sequence[Sequence[bytes]], rates: Sequence[float], stop: asyncio.Event
) -> list[list[Answer]]:
    """Send each kind of request at its rate until told to stop."""
    return await asyncio.gather(
        *(run_paced(port, each, rate=rate, until=stop) for each, rate in zip(requests, rates, strict=True))
    )


def ping(port: int) -> bytes:
    body = orjson.dumps({"query": "{ __typename }"})
    return http_request(port, "/graphql", body, {"Authorization": f"Bearer {token()}"})


async def plan(runs: Runs, reason: str) -> int:
    """Plan a run, put the plan away, and return its population."""
    cells = {f"{point}:{reason}": "ON" for point in POINTS}
    run = await runs.ended(await runs.submit("STUDENT_CONTACTS", cells, dryRun=True), "PLANNED", 0.1)
    await runs.act("cancelBatch", run["id"])
    return int(run["population"])


async def measure(port: int, dsn: str, options: argparse.Namespace) -> Measured:
    """Load the server: with nothing else to do, then while it plans. The kinds take turns."""
    measured = Measured()
    rates = (options.reads, options.writes, options.pings)
    async with GraphQLClient(f"http://127.0.0.1:{port}/graphql", token()) as client:
        await until_up(client)
        requests = (*await requests_of(port, dsn), [ping(port)])
        await settle(dsn)
        stop = asyncio.Event()
        loading = asyncio.create_task(loads(port, requests, rates, stop))
        await asyncio.sleep(WARM_UP_SECONDS)
        phases: list[tuple[str, float, float]] = []
        for _ in range(options.rounds):
            begin = time.perf_counter()
            await asyncio.sleep(options.idle)
            phases.append((IDLE, begin, time.perf_counter()))
            for phase, reason in KINDS.items():
                begin = time.perf_counter()
                measured.population = await plan(Runs(client), reason)
                phases.append((phase, begin, time.perf_counter()))
                measured.seconds[phase].append(phases[-1][2] - begin)
                await asyncio.sleep(1)
        stop.set()
        for kind, answers in zip(KINDS_OF_REQUEST, await loading, strict=True):
            for phase, begin, end in phases:
                measured.answers[kind][phase] += [answer for answer in answers if begin <= answer.due < end]
    return measured


def report(measured: Measured, options: argparse.Namespace) -> Table:
    table = Table(
        title=f"{options.students:,} students, {measured.population:,} people in the run, a check of "
        f"{options.milliseconds:g} ms a chunk, {options.rounds} rounds, {date.today()}"
    )
    for heading in ("", "requests", "failed", "p50 ms", "p99 ms", "max ms", "p99 / idle p99", "plan s"):
        table.add_column(heading, justify="right" if heading else "left")
    for kind, phases in measured.answers.items():
        idle = percentile(phases[IDLE], 0.99)
        for phase, answers in phases.items():
            seconds = measured.seconds.get(phase)
            table.add_row(
                f"{kind}, {phase}",
                f"{len(answers):,}",
                str(sum(not answer.good for answer in answers)),
                *(f"{percentile(answers, share) * 1000:.1f}" for share in (0.5, 0.99, 1)),
                f"{percentile(answers, 0.99) / idle:.2f}",
                f"{sum(seconds) / len(seconds):.1f}" if seconds else "",
            )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--milliseconds", type=float, default=20, help="what the check takes over a chunk")
    parser.add_argument("--idle", type=float, default=10, help="seconds of load without a run, each round")
    parser.add_argument("--reads", type=float, default=50, help="reads a second")
    parser.add_argument("--writes", type=float, default=5, help="writes a second")
    parser.add_argument("--pings", type=float, default=50, help="pings a second")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="gql-server-bench-")))
        plugin = folder / "plugins" / "slow_rule.py"
        plugin.parent.mkdir()
        plugin.write_text(PLUGIN.format(seconds=options.milliseconds / 1000), encoding="utf-8")
        dsn = stack.enter_context(embedded_postgres(folder, delete=True))
        uvloop.run(make_district(dsn, options.students))
        port = stack.enter_context(gql_server(dsn, PLUGINS_DIR=str(plugin.parent))).port
        measured = uvloop.run(measure(port, dsn, options))
    Console(width=130).print(report(measured, options))


if __name__ == "__main__":
    main()
