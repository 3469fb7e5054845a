"""`python -m tests.bench.chunk_write [--students N]`: the chunks of a run against the bare UPDATE of the same rows.

The run sets the cell phones of the messenger contacts of all students, in chunks of 10,000. Its plan is made before and
is not measured; each chunk is a transaction of its own, with all that belongs to it: lease, log, counts, signal. It is
compared, in the same database and in turns, with one UPDATE of the same rows, whose people are known beforehand: of one
bit over masks that are all alike, and of seven bits (all but STAFF, which few may get) over masks that differ. After
each turn the masks must be the same. PostgreSQL's processor time is that of all its processes.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gql_server.db.embedded import create_database, embedded_postgres
from gql_server.db.pool import Pool, connect, open_pool
from gql_server.db.protocols import Connection
from gql_server.db.statements import resource_folder
from gql_server.domain import defaults
from gql_server.domain.batch import Cell, Setting
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.apply import apply_chunk
from gql_server.services.batch.plan import plan_run
from gql_server.services.batch.request import BatchRequest, ScopeInput
from gql_server.services.batch.run import Run
from gql_server.services.batch.service import BatchService
from gql_server.services.batch.signals import RunSignals
from gql_server.services.batch.worker import BatchWorker
from tests.bench.measure import (
    ROUNDS,
    Results,
    postmaster,
    print_tables,
    results_table,
    statements,
    take_turns,
    wal_bytes,
)
from tests.bench.servers import CODE, make_district
from tests.support.stepping import claim

MODE = "STUDENT_CONTACTS"
ALIKE, MIXED = "One bit, masks alike", "Seven bits, mixed masks"
BARE, CHUNKS = "bare UPDATE", "chunks of 10,000"
STARTS = {
    ALIKE: "reasons_on = 0, reasons_chosen = 0",
    MIXED: "reasons_on = hashint8(person_id) & 255, reasons_chosen = hashint8(person_id + 7) & 255",
}
UPDATE = """
update preference set reasons_on = reasons_on | {mask}, reasons_chosen = reasons_chosen & ~({mask} & ~reasons_on)
where district_id = 1 and contact_point = 'CELL_PHONE' and method = 'VOICE' and reasons_on & {mask} <> {mask}
  and person_id in (select person_id from known_person)
"""
KNOWN = """
create table known_person as select distinct s.person_id
from batch_target t cross join lateral unnest(t.subject_ids, t.places) as s (person_id, place) where place is not null;
alter table known_person add primary key (person_id);
analyze known_person;
"""
ABANDON = """
delete from batch_target;
update batch_run set status = 'CANCELLED', lease_owner = null where status = 'APPLYING';
"""
MASKS = """
select count(*) as rows, sum(hashint8(person_id) * (reasons_on * 256 + reasons_chosen)) as digest
from preference
where contact_point = 'CELL_PHONE' and method = 'VOICE' and person_id in (select person_id from known_person)
"""


@dataclass
class Bench:
    """What the contestants share: the run that is planned for a turn, and what was found after the turns."""

    db: Pool
    conn: Connection
    host: PluginHost
    start: str
    reasons: dict[str, int]
    """The bits by the reasons that are turned on."""
    run: Run | None = None
    turns: int = 0
    wal: dict[str, float] = field(default_factory=dict)
    digests: set[Any] = field(default_factory=set)

    async def before(self) -> None:
        """Check the last turn, set the masks that a turn begins with, plan a run, and let the tables rest."""
        await self.check()
        for statement in statements(ABANDON):
            await self.conn.execute(statement)
        await self.conn.execute(
            f"update preference set {STARTS[self.start]} where contact_point = 'CELL_PHONE'"
        )
        await self.conn.execute("vacuum analyze preference")
        self.run = await self.planned()
        for table in ("batch_target", "change", "batch_run"):
            await self.conn.execute(f"vacuum analyze {table}")
        await self.conn.execute("checkpoint")

    async def planned(self) -> Run:
        worker = BatchWorker(self.db, self.host)
        service = BatchService(self.db, self.host, worker, RunSignals(self.db))
        cells = tuple(Cell(ContactPointKind.CELL_PHONE, reason, Setting.ON) for reason in self.reasons)
        viewer = Viewer(District(1, CODE, "UTC"), Role.ADMIN)
        await service.submit(viewer, BatchRequest(MODE, ScopeInput(), cells, False, False, None), 0)
        run = await claim(self.db, "bench", lease_seconds=600)
        await plan_run(self.db, self.host, run, chunk_size=defaults.CHUNK_SIZE)
        return run

    async def bare(self) -> None:
        await self.conn.execute(UPDATE.format(mask=sum(1 << bit for bit in self.reasons.values())))

    async def chunks(self) -> None:
        assert self.run is not None
        while await apply_chunk(self.db, self.run, lease_seconds=600.0) is not None:
            pass

    async def turn(self, name: str) -> None:
        before = await wal_bytes(self.conn)
        await {BARE: self.bare, CHUNKS: self.chunks}[name]()
        self.wal[name] = (await wal_bytes(self.conn) - before) / 2**20
        self.turns += 1

    async def check(self) -> None:
        """Assert that every turn has left the same masks."""
        if self.turns:
            row = await self.conn.fetchrow(MASKS)
            assert row is not None
            self.digests.add(tuple(row.values()))
            assert len(self.digests) == 1, "the contestants have left different masks"


async def measure(dsn: str, rounds: int) -> list[tuple[Bench, Results]]:
    host = PluginHost([resource_folder("plugins")])
    db = await open_pool(dsn, min_size=1, max_size=4, statement_timeout=600)
    measured = []
    async with connect(dsn) as conn:
        await conn.execute("delete from disabled_cell")
        await conn.execute("delete from opt_out")  # the run would leave out reasons that the bare UPDATE sets
        rows = await conn.fetch("select code, bit from contact_reason where code <> 'STAFF' order by bit")
        reasons = {row["code"]: row["bit"] for row in rows}
        processes: Mapping[str, int] = {"PostgreSQL": await postmaster(conn)}
        for start, named in ((ALIKE, {"GENERAL": reasons["GENERAL"]}), (MIXED, reasons)):
            bench = Bench(db, conn, host, start, named)
            await bench.before()
            if start == ALIKE:
                for statement in statements(KNOWN):
                    await conn.execute(statement)
            compared = {name: partial(bench.turn, name) for name in (BARE, CHUNKS)}
            results = await take_turns(compared, rounds=rounds, processes=processes, before=bench.before)
            await bench.check()
            measured.append((bench, results))
    await db.close()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    tables = []
    with (
        tempfile.TemporaryDirectory(prefix="gql-server-bench-") as folder,
        embedded_postgres(Path(folder), delete=True) as admin_dsn,
    ):
        dsn = asyncio.run(create_database(admin_dsn, "bench"))
        asyncio.run(make_district(dsn, options.students))
        for bench, results in asyncio.run(measure(dsn, options.rounds)):
            table = results_table(bench.start, "seconds", "× bare", "PG ms", "× bare", "WAL MiB")
            for name in results.turns:
                cpu = results.cpu(name, "PostgreSQL")
                table.add_row(
                    name,
                    f"{results.seconds(name):.2f}",
                    f"{results.seconds(name) / results.seconds(BARE):.2f}",
                    f"{cpu:.0f}",
                    f"{cpu / results.cpu(BARE, 'PostgreSQL'):.2f}",
                    f"{bench.wal[name]:.1f}",
                )
            tables.append(table)
    print_tables(tables)


if __name__ == "__main__":
    main()
