"""`python -m tests.bench.slow_hook --students N`: the portal while a hook of a plug-in sleeps.

The server has a plug-in that sleeps, eight seconds each time, in the hook that a file names. The portal's load is that
of `tests.bench.live`, first with no hook asleep, then with each in turn, while runs are planned and put away, so that
every hook is called. Beside it go pings, which need no database. Requests that ask the hook that sleeps wait for it,
and are shown in brackets: the bound is for the others.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from rich.console import Console
from rich.table import Table

from gql_server.api.client import GraphQLClient
from gql_server.db.embedded import embedded_postgres
from tests.bench.live import WARM_UP_SECONDS, percentile, requests_of
from tests.bench.load import Answer
from tests.bench.servers import Runs, gql_server, make_district, settle, token, until_up
from tests.bench.slow_rule import KINDS_OF_REQUEST, loads, ping

NONE = "none"
HOOKS = ("run_finished", "preferences_changed", "eligibility_rules", "select_population")
ASKED_BY_WRITES = "eligibility_rules"
BOUND = 1.2
PLUGIN = '''
"""Sleeps in the hook that the file beside it names."""

import pathlib
import time

from gql_server.hooks import BatchMode, FilterKind, Population, Sql, hookimpl

ASLEEP = pathlib.Path(__file__).with_name("asleep.txt")


def sleep(hook):
    if ASLEEP.read_text() == hook:
        time.sleep(8)


@hookimpl
def batch_modes():
    return [BatchMode("NOBODY", "Nobody", "Nobody at all.", FilterKind.STUDENT)]


@hookimpl
def select_population(mode, scope):
    sleep("select_population")
    return Population(Sql("select person_id from person where district_id = :district_id and person_id < 50"))


@hookimpl
def eligibility_rules(request):
    sleep("eligibility_rules")
    return []


@hookimpl
def run_finished(run):
    sleep("run_finished")


@hookimpl
def preferences_changed(changes):
    sleep("preferences_changed")
'''

Answers = dict[str, dict[str, list[Answer]]]


async def call_hooks(port: int, until: float) -> None:
    """Plan runs and put the plans away, one after another, so that every hook is called."""
    async with GraphQLClient(f"http://127.0.0.1:{port}/graphql", token(), timeout=60) as client:
        runs = Runs(client)
        while time.perf_counter() < until:
            with suppress(Exception):  # the hook took too long
                run = await runs.submit("NOBODY", {"EMAIL:GENERAL": "ON"}, dryRun=True)
                await runs.ended(run, "PLANNED", 0.2)
                await runs.act("cancelBatch", run["id"])
            await asyncio.sleep(0.5)


async def measure(
    port: int, dsn: str, asleep: Callable[[str], object], options: argparse.Namespace
) -> Answers:
    """Load the server with no hook asleep, and with each in turn, in so many rounds."""
    answers: Answers = {kind: {hook: [] for hook in (NONE, *HOOKS)} for kind in KINDS_OF_REQUEST}
    rates = (options.reads, options.writes, options.pings)
    async with GraphQLClient(f"http://127.0.0.1:{port}/graphql", token()) as client:
        await until_up(client)
    requests = (*await requests_of(port, dsn), [ping(port)])
    await settle(dsn)
    for round_ in range(options.rounds + 1):
        for hook in (NONE, *HOOKS):
            asleep(hook)
            stop = asyncio.Event()
            loading = asyncio.create_task(loads(port, requests, rates, stop))
            seconds = options.seconds if round_ else WARM_UP_SECONDS / 5
            calling = asyncio.create_task(call_hooks(port, time.perf_counter() + seconds))
            await asyncio.sleep(seconds)
            stop.set()
            asleep(NONE)
            for kind, measured in zip(KINDS_OF_REQUEST, await loading, strict=True):
                answers[kind][hook] += measured if round_ else []
            await calling
            await asyncio.sleep(9)  # what sleeps wakes up
    return answers


def report(answers: Answers, options: argparse.Namespace) -> Table:
    table = Table(title=f"{options.students:,} students, {options.rounds} rounds, {date.today()}")
    for heading in ("", "asleep", "requests", "failed", "p50 ms", "p99 ms", "p50 / none", "p99 / none", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for kind, hooks in answers.items():
        for hook, measured in hooks.items():
            ratios = [percentile(measured, share) / percentile(hooks[NONE], share) for share in (0.5, 0.99)]
            asks = (kind, hook) == ("writes", ASKED_BY_WRITES)
            verdict = "(asks it)" if asks else "good" if ratios[0] <= BOUND else "MISSED"
            table.add_row(
                kind, hook, f"{len(measured):,}", str(sum(not answer.good for answer in measured)),
                *(f"{percentile(measured, share) * 1000:.1f}" for share in (0.5, 0.99)),
                *(f"{ratio:.2f}" for ratio in ratios),
                verdict,
            )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12, help="how long a hook is asleep, each round")
    parser.add_argument("--reads", type=float, default=50, help="reads a second")
    parser.add_argument("--writes", type=float, default=5, help="writes a second")
    parser.add_argument("--pings", type=float, default=50, help="pings a second")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="gql-server-bench-")))
        plugin = folder / "plugins" / "sleeper.py"
        plugin.parent.mkdir()
        plugin.write_text(PLUGIN, encoding="utf-8")
        asleep = plugin.with_name("asleep.txt").write_text
        asleep(NONE)
        dsn = stack.enter_context(embedded_postgres(folder, delete=True))
        uvloop.run(make_district(dsn, options.students))
        port = stack.enter_context(gql_server(dsn, PLUGINS_DIR=str(plugin.parent), LOG_LEVEL="ERROR")).port
        answers = uvloop.run(measure(port, dsn, asleep, options))
    Console(width=130).print(report(answers, options))


if __name__ == "__main__":
    main()
