"""`python -m tests.bench.batch --students N [N ...]`: a whole batch mutation against the bare UPDATE of the same rows.

A real server, one process, is sent `batchSetPreferences` for the messenger contacts of all students, on their cell
phone, the contact point that most of them have (TEACHER is switched on for it, so that there are eight cells).
It is compared, in the same database and in turns, with what a careful hand would type: one UPDATE that finds the same
people and sets the bits, without plan, rules, log and counts; and with a table of one row a cell, without a log.

Everything is measured twice: from preferences that are all off, and from mixed ones, where eight bits of each person
are as random as can be and a run changes other bits for each.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from gql_server.api.client import GraphQLClient
from gql_server.db.embedded import create_database, embedded_postgres
from gql_server.db.pool import connect
from gql_server.db.protocols import Connection
from gql_server.db.statements import execute, resource_folder
from gql_server.domain.sql import Sql
from gql_server.hooks import BatchScope, Role
from gql_server.hooks.host import PluginHost
from tests.bench.measure import (
    ROUNDS,
    Results,
    postmaster,
    print_tables,
    results_table,
    statements,
    take_turns,
    versions,
    wal_bytes,
)
from tests.bench.servers import Runs, Server, gql_server, make_district, token, until_up

MODE = "STUDENT_CONTACTS"
OFF, MIXED = "all off", "mixed"
START = {OFF: "0", MIXED: "abs(hashint8(person_id)) & 255"}
"""The masks that a turn begins with."""
BARE, BARE_EIGHT, KNOWN = "bare UPDATE", "bare UPDATE, 8 bits", "bare, people known"
ONE, EIGHT = "one cell", "eight cells"
CELLS = "upsert, a row a cell"

PEOPLE = """
select c.person_id from contact_point c
where c.district_id = :district_id and c.kind = 'CELL_PHONE'
  and c.person_id in (select selected.person_id from ({population}) selected)
"""
UPDATE = """
update preference p set reasons_on = reasons_on | :mask
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
update preference set reasons_on = {start}, reasons_chosen = 0
where contact_point = 'CELL_PHONE' and method = 'VOICE' and (reasons_on <> {start} or reasons_chosen <> 0);
update cell_preference set is_on = false where is_on;
"""

Contestants = dict[str, Callable[[], Awaitable[object]]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one size of district. wal: MiB of each contestant's last turn; peak: MiB of the server."""

    students: int
    people: int
    start: str
    results: Results
    wal: dict[str, float]
    peak: float


def peak_mebibytes(pid: int) -> float:
    """Return the most memory that a process has had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


async def submit(runs: Runs, reasons: list[str]) -> None:
    """Send one mutation and wait until its run is done."""
    cells = {f"CELL_PHONE:{reason}": "ON" for reason in reasons}
    await runs.ended(await runs.submit(MODE, cells, waitSeconds=60), poll_seconds=0.2)


async def reset(conn: Connection, start: str) -> None:
    """Set the masks that a turn begins with, and leave every table as if it had rested."""
    for statement in statements(RESET.format(start=START[start])):
        await conn.execute(statement)
    for table in ("preference", "cell_preference", "batch_target", "change"):
        await conn.execute(f"vacuum analyze {table}")
    await conn.execute("checkpoint")


async def contestants(conn: Connection, host: PluginHost, runs: Runs, reasons: list[str]) -> Contestants:
    """Return what is compared, by name."""
    people = Sql(PEOPLE).fill(
        population=host.population(MODE, BatchScope(district="bench", role=Role.ADMIN)).sql
    )
    district: dict[str, Any] = {
        "district_id": await conn.fetchval("select district_id from district"),
        "today": date.today(),
    }
    bits = [row["bit"] for row in await conn.fetch("select bit from contact_reason order by bit limit 8")]
    one, eight = 1 << bits[0], sum(1 << bit for bit in bits)

    async def update(found: Sql, mask: int) -> None:
        await execute(conn, Sql(UPDATE).fill(people=found), mask=mask, **district)

    async def upsert() -> None:
        await execute(conn, Sql(UPSERT).fill(people=people), **district)

    return {
        BARE: partial(update, people, one),
        KNOWN: partial(update, Sql("select person_id from known_person"), one),
        BARE_EIGHT: partial(update, people, eight),
        ONE: partial(submit, runs, reasons[:1]),
        EIGHT: partial(submit, runs, reasons[:8]),
        CELLS: upsert,
    }


async def measure(dsn: str, students: int, rounds: int, server: Server) -> list[Measured]:
    host = PluginHost([resource_folder("plugins")])
    async with connect(dsn) as conn, GraphQLClient(server.url, token()) as client:
        runs = Runs(client)
        reasons = [row["code"] for row in await conn.fetch("select code from contact_reason order by bit")]
        await conn.execute("update preference set reasons_on = 0, reasons_chosen = 0")
        await conn.execute("delete from disabled_cell")
        head = await conn.fetchval("select revision from district")
        await until_up(client)
        await submit(runs, reasons[:8])
        for statement in statements(PREPARE.format(head=head)):
            await conn.execute(statement)
        people = await conn.fetchval("select count(*) from known_person")
        roots = {"server": server.pid, "PostgreSQL": await postmaster(conn)}
        measured = []
        for start in START:
            wal: dict[str, float] = {}
            compared = _with_wal(conn, await contestants(conn, host, runs, reasons), wal)
            if start == MIXED:
                del compared[CELLS]  # its table is the same
            results = await take_turns(
                compared, rounds=rounds, processes=roots, before=partial(reset, conn, start)
            )
            measured.append(Measured(students, people, start, results, wal, peak_mebibytes(server.pid)))
        return measured


def _with_wal(conn: Connection, compared: Contestants, wal: dict[str, float]) -> Contestants:
    """Return contestants that also record the WAL, in MiB, that they cause."""

    async def run(name: str) -> None:
        before = await wal_bytes(conn)
        await compared[name]()
        wal[name] = (await wal_bytes(conn) - before) / 2**20

    return {name: partial(run, name) for name in compared}


def report(measured: Measured) -> Table:
    results = measured.results
    table = results_table(
        f"{measured.students:,} students, {measured.people:,} people, {measured.start}",
        "seconds", "× bare", "× one", "× eight", "server ms", "PG ms", "WAL MiB",
    )  # fmt: skip
    for name in results.turns:
        seconds = results.seconds(name)
        bare = BARE_EIGHT if name == EIGHT else BARE
        table.add_row(
            name,
            f"{seconds:.2f}",
            f"{seconds / results.seconds(bare):.2f}",
            f"{seconds / results.seconds(ONE):.2f}",
            f"{seconds / results.seconds(EIGHT):.2f}",
            f"{results.cpu(name, 'server'):.0f}",
            f"{results.cpu(name, 'PostgreSQL'):.0f}",
            f"{measured.wal[name]:.1f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    measured: list[Measured] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-"))
        admin_dsn = stack.enter_context(embedded_postgres(Path(folder), delete=True))
        for students in options.students:
            dsn = asyncio.run(create_database(admin_dsn, f"bench_{students}"))
            asyncio.run(make_district(dsn, students))
            with gql_server(dsn) as server:
                measured += asyncio.run(measure(dsn, students, options.rounds, server))
    print_tables(
        [
            *map(report, measured),
            f"Peak memory of the server process: {max(each.peak for each in measured):.0f} MiB.",
            "`× bare` of eight cells is to the bare UPDATE of eight bits.",
            versions("asyncpg", "uvloop"),
        ]
    )


if __name__ == "__main__":
    main()
