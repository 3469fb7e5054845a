"""`python -m tests.bench.run_life --students N`: what planning, undoing and a check cost beside an applied run.

In each round the same request for all students' contacts is planned only, applied, reverted, and applied once more by
a server with a plug-in whose check looks at every candidate and denies a few. Reverts put everything back, so each
turn finds the same preferences. Times are those of a client: from the mutation until the run rests. Before each, the
tables are left as if they had rested, and the client asks what a front end asks first: whom the mode would select.
"""

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from gql_server.api.client import GraphQLClient, Json
from gql_server.db.embedded import embedded_postgres
from gql_server.db.pool import connect
from tests.bench.servers import Runs, gql_server, make_district, settle, timed, token, until_up

MODE = "STUDENT_CONTACTS"
CELLS = ("CELL_PHONE:GENERAL", "CELL_PHONE:ATTENDANCE", "EMAIL:GENERAL")
APPLY, PLAN, REVERT, CHECKED = "applied run", "dry run", "revert", "applied run with a check"
OPTIONS = "query options($mode: ModeCode!) { batchOptions(mode: $mode) { population } }"
PLUGIN = '''
"""Looks at every candidate and keeps a few out."""

from gql_server.hooks import Deny, Rule, Verdict, hookimpl


async def check(candidates, reader):
    return [Deny() if c.person_id % 1000 == 7 else Verdict.ALLOW for c in candidates]


@hookimpl
def eligibility_rules(request):
    return [Rule("sevens", "Every thousandth person stays as they are.", check=check)]
'''
DENIED = """
select count(*) from batch_exclusion x join batch_rule r using (district_id, batch_run_id, rule_no)
where r.plugin = 'sevens'
"""

Seconds = dict[str, list[float]]


async def rest(dsn: str, client: GraphQLClient) -> None:
    """Let every turn begin alike: whatever was read last is what the wizard shows."""
    await settle(dsn)
    await client.execute(OPTIONS, {"mode": MODE})


async def applied(runs: Runs, seconds: list[float]) -> Json:
    with timed(seconds):
        return await runs.ended(await runs.submit(MODE, dict.fromkeys(CELLS, "ON")))


async def reverted(runs: Runs, run: Json, seconds: list[float]) -> None:
    """Undo a run: with its revert's end it is REVERTED."""
    with timed(seconds):
        await runs.ended(await runs.act("revertBatch", run["id"]))


async def plain_turns(url: str, dsn: str, seconds: Seconds) -> int:
    """Plan, apply and revert, and return the population."""
    async with GraphQLClient(url, token()) as client:
        await until_up(client)
        runs = Runs(client)
        await rest(dsn, client)
        with timed(seconds[PLAN]):
            planned = await runs.ended(
                await runs.submit(MODE, dict.fromkeys(CELLS, "ON"), dryRun=True), "PLANNED"
            )
        await runs.act("cancelBatch", planned["id"])
        await rest(dsn, client)
        run = await applied(runs, seconds[APPLY])
        await rest(dsn, client)
        await reverted(runs, run, seconds[REVERT])
        return int(run["population"])


async def checked_turn(url: str, dsn: str, seconds: Seconds) -> None:
    """Apply with the plug-in's check, and put everything back."""
    async with GraphQLClient(url, token()) as client:
        await until_up(client)
        runs = Runs(client)
        await rest(dsn, client)
        run = await applied(runs, seconds[CHECKED])
        await reverted(runs, run, [])
    async with connect(dsn) as conn:
        if not await conn.fetchval(DENIED):
            raise RuntimeError("the check denied nobody")


def report(seconds: Seconds, students: int, population: int) -> Table:
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    apply = medians[APPLY]
    rows = (
        (APPLY, APPLY, None, None),
        (PLAN, PLAN, medians[PLAN] / apply, 0.5),
        (REVERT, REVERT, medians[REVERT] / apply, 1.2),
        (CHECKED, f"{CHECKED}: what it adds", medians[CHECKED] / apply - 1, 1.0),
    )
    table = Table(
        title=f"{students:,} students, {population:,} people in the run, {len(CELLS)} cells, "
        f"median of {len(seconds[APPLY])}, {date.today()}"
    )
    for heading in ("", "seconds", "of the applied run", "at most", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for name, label, ratio, bound in rows:
        measured = [label, f"{medians[name]:.2f}"]
        if ratio is not None and bound is not None:
            measured += [f"{ratio:.2f}", f"{bound:.2f}", "good" if ratio <= bound else "MISSED"]
        table.add_row(*measured)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: Seconds = {name: [] for name in (APPLY, PLAN, REVERT, CHECKED)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-")))
        plugin = folder / "plugins" / "sevens" / "__init__.py"
        plugin.parent.mkdir(parents=True)
        plugin.write_text(PLUGIN, encoding="utf-8")
        dsn = stack.enter_context(embedded_postgres(folder, delete=True))
        uvloop.run(make_district(dsn, options.students))
        for _ in range(options.rounds):
            with gql_server(dsn) as server:
                population = uvloop.run(plain_turns(server.url, dsn, seconds))
            with gql_server(dsn, PLUGINS_DIR=str(folder / "plugins")) as server:
                uvloop.run(checked_turn(server.url, dsn, seconds))
    Console().print(report(seconds, options.students, population))


if __name__ == "__main__":
    main()
