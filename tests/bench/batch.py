"""`python -m tests.bench.batch --students N [N ...]`: a whole batch mutation against the bare UPDATE of the same rows.

A real server, one process, is sent `batchSetPreferences` for the messenger contacts of all students, on their cell
phone, the contact point that most of them have (TEACHER is switched on for it, so that there are eight cells).
It is compared, in the same database and in turns, with what a careful hand would type: one UPDATE that finds the same
people and sets one bit, without plan, rules, log and counts; and with a table of one row a cell, without a log.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gql_server.api.client import GraphQLClient
from gql_server.db.embedded import create_database, embedded_postgres
from gql_server.db.pool import connect
from gql_server.db.protocols import Connection
from gql_server.db.statements import execute, resource_folder
from gql_server.domain.sql import Sql
from gql_server.hooks import BatchScope, Role
from gql_server.hooks.host import PluginHost
from tests.bench.servers import Runs, Server, gql_server, make_district, token, until_up

MODE = "STUDENT_CONTACTS"
BARE, KNOWN = "bare UPDATE that finds the people", "bare UPDATE of people known beforehand"
ONE, EIGHT = "batchSetPreferences, one cell", "batchSetPreferences, eight cells"
CELLS = "upsert of a row a cell, eight cells, no log"

PEOPLE = """
select c.person_id from contact_point c
where c.district_id = :district_id and c.kind = 'CELL_PHONE'
  and c.person_id in (select selected.person_id from ({population}) selected)
"""
UPDATE = """
update preference p set reasons_on = reasons_on | 1
where p.district_id = :district_id and p.contact_point = 'CELL_PHONE' and p.method = 'VOICE'
  and p.person_id in ({people})
"""
UPSERT = """
insert into cell_preference (district_id, person_id, contact_point, method, reason, is_on)
select :district_id, people.person_id, 'CELL_PHONE', 'VOICE', r.code, true
from ({people}) people cross join contact_reason r
where r.district_id = :district_id
on conflict (district_id, person_id, contact_point, method, reason) do update set is_on = excluded.is_on
"""
PREPARE = """
create table known_person as select distinct subject_id as person_id from subject_change
  where subject = 'PERSON' and kind = 'PREFERENCES' and revision > {head};
alter table known_person add primary key (person_id);
create table cell_preference (
  district_id integer, person_id bigint, contact_point contact_point_kind, method method, reason text,
  is_on boolean not null, primary key (district_id, person_id, contact_point, method, reason));
insert into cell_preference
  select p.district_id, p.person_id, p.contact_point, p.method, r.code, false
  from preference p join contact_reason r using (district_id) order by 2, 3, 4, r.bit;
"""
RESET = """
update preference set reasons_on = 0, reasons_chosen = 0
where contact_point = 'CELL_PHONE' and method = 'VOICE' and (reasons_on <> 0 or reasons_chosen <> 0);
update cell_preference set is_on = false where is_on;
"""


@dataclass
class Result:
    """What was measured of one size of district: seconds by name, rows of the mutation, peak memory in MiB."""

    students: int
    people: int = 0
    peak: float = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])


def peak_mebibytes(pid: int) -> float:
    """Return the most memory that a process has had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


async def submit(runs: Runs, reasons: list[str]) -> None:
    """Send one mutation and wait until its run is done."""
    cells = {f"CELL_PHONE:{reason}": "ON" for reason in reasons}
    await runs.ended(await runs.submit(MODE, cells, waitSeconds=60), poll_seconds=0.2)


async def reset(conn: Connection) -> None:
    """Turn everything off again and leave every table as if it had rested."""
    for statement in filter(str.strip, RESET.split(";")):
        await conn.execute(statement)
    for table in ("preference", "cell_preference", "batch_target", "change"):
        await conn.execute(f"vacuum analyze {table}")
    await conn.execute("checkpoint")


async def contestants(
    conn: Connection, host: PluginHost, runs: Runs, reasons: list[str]
) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return what is compared, by name."""
    people = Sql(PEOPLE).fill(
        population=host.population(MODE, BatchScope(district="bench", role=Role.ADMIN)).sql
    )
    district: dict[str, Any] = {
        "district_id": await conn.fetchval("select district_id from district"),
        "today": date.today(),
    }
    known = Sql("select person_id from known_person")
    return {
        BARE: lambda: execute(conn, Sql(UPDATE).fill(people=people), **district),
        KNOWN: lambda: execute(conn, Sql(UPDATE).fill(people=known), **district),
        ONE: lambda: submit(runs, reasons[:1]),
        EIGHT: lambda: submit(runs, reasons[:8]),
        CELLS: lambda: execute(conn, Sql(UPSERT).fill(people=people), **district),
    }


async def measure(dsn: str, students: int, rounds: int, server: Server) -> Result:
    result = Result(students)
    host = PluginHost([resource_folder("plugins")])
    async with connect(dsn) as conn, GraphQLClient(server.url, token()) as client:
        runs = Runs(client)
        reasons = [row["code"] for row in await conn.fetch("select code from contact_reason order by bit")]
        await conn.execute("update preference set reasons_on = 0, reasons_chosen = 0")
        await conn.execute("delete from disabled_cell")
        head = await conn.fetchval("select revision from district")
        await until_up(client)
        await submit(runs, reasons[:8])
        for statement in filter(str.strip, PREPARE.format(head=head).split(";")):
            await conn.execute(statement)
        result.people = await conn.fetchval("select count(*) from known_person")
        for _ in range(rounds):
            for name, run in (await contestants(conn, host, runs, reasons)).items():
                await reset(conn)
                start = time.perf_counter()
                await run()
                result.seconds.setdefault(name, []).append(time.perf_counter() - start)
    result.peak = peak_mebibytes(server.pid)
    return result


def report(results: list[Result]) -> Table:
    table = Table(title=f"Cell phone of the contacts of all students, median of turns, {date.today()}")
    for heading in (
        "students",
        "people",
        "",
        "seconds",
        "s per million",
        "× bare",
        "× one cell",
        "× eight cells",
    ):
        table.add_column(heading, justify="left" if not heading else "right")
    for result in results:
        for name in result.seconds:
            seconds = result.median(name)
            table.add_row(
                f"{result.students:,}" if name == BARE else "",
                f"{result.people:,}" if name == BARE else "",
                name,
                f"{seconds:.2f}",
                f"{seconds / result.people * 1e6:.1f}",
                f"{seconds / result.median(BARE):.2f}",
                f"{seconds / result.median(ONE):.2f}",
                f"{seconds / result.median(EIGHT):.2f}",
            )
        table.add_row("", "", f"peak memory of the server process: {result.peak:.0f} MiB", end_section=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-"))
        admin_dsn = stack.enter_context(embedded_postgres(Path(folder), delete=True))
        for students in options.students:
            dsn = asyncio.run(create_database(admin_dsn, f"bench_{students}"))
            asyncio.run(make_district(dsn, students))
            with gql_server(dsn) as server:
                results.append(asyncio.run(measure(dsn, students, options.rounds, server)))
    # In a file, too, a row is a line.
    Console(width=None if sys.stdout.isatty() else 140).print(report(results))


if __name__ == "__main__":
    main()
