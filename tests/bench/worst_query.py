"""`python -m tests.bench.worst_query`: search for the most costly query that each role is admitted with.

A server and a district of 20,000 students; documents are changed a little at a time, and what PostgreSQL spends on
them is measured: the memory of the backend at its peak, and its CPU. What costs more is changed further. Mutations'
payloads and subscriptions' events are searched as well as queries. Beside that the server itself is watched: its
memory over thousands of different queries, and the longest time for which it did not answer /healthz.

The documents found are written to a folder, whose name is printed; `--keep FOLDER` keeps the district for the next run.
"""

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, cast

import aiohttp
import asyncpg
import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from gql_server.api.client import GraphQLClient
from gql_server.api.schema import build_schema
from gql_server.db.embedded import embedded_postgres
from gql_server.db.migrations import migrate
from gql_server.db.protocols import Connection
from gql_server.domain.viewer import Role
from tests.api.test_hostile_documents import HOSTILE
from tests.bench.servers import Runs, Server, gql_server, make_district, token, until_up
from tests.support.backends import MIB, Backends, Cost, memory
from tests.support.shapes import Shape, Shaper, Vocabulary, repeated, written
from tests.support.worst_documents import DOCUMENTS

BYTES, CPU = "bytes", "cpu"
BOUNDS = {True: (16 * MIB, 0.25), False: (64 * MIB, 3.0)}
"""Bytes and seconds that one query may cost PostgreSQL: of portal roles, and of others."""
PORTAL = (Role.GUARDIAN, Role.STUDENT, Role.STAFF)
ROLES = (Role.GUARDIAN, Role.STUDENT, Role.STAFF, Role.VENDOR, Role.ADMIN)
ACCEPT = "application/json, text/event-stream"
WARM = "{ viewer { role } }"
CHILDREN, CHANGES = 8, 300
"""Of the family that the portal's roles are measured with: children, and logged changes of each of its people."""
OTHERS = 500
"""Newer changes of two thirds of the people of every bucket of the log; none names the family or the other third."""

FAMILY = """
with chosen as (
  select r.contact_id, r.district_id from relationship r
  join household_member m on m.district_id = r.district_id and m.person_id = r.contact_id
  where r.messenger and not r.no_contact
  group by r.contact_id, r.district_id order by count(*) desc, r.contact_id limit 1
), more as (
  insert into relationship (district_id, student_id, contact_id, kind, guardian, messenger)
  select c.district_id, e.person_id, c.contact_id, 'Mother', true, true
  from chosen c
  cross join lateral (
    select distinct e.person_id from enrollment e
    where e.district_id = c.district_id and e.person_id <> c.contact_id
      and current_date between coalesce(e.start_date, '-infinity') and coalesce(e.end_date, 'infinity')
    order by e.person_id limit $1
  ) e
  returning student_id, contact_id
)
select contact_id, array_agg(student_id order by student_id) as students from more group by contact_id
"""
LOG = """
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids, turned_on,
  reasons, lowest_id, highest_id)
select s.district_id, s.revision, 'PERSON', bucket_of(p.person_id), 'PREFERENCES', 'CELL_PHONE', 'VOICE',
  array[p.person_id], array[1 + n % 127], 1 + n % 127, p.person_id, p.person_id
from change_set s, unnest($1::bigint[]) as p (person_id), generate_series(1, $2) as n
where s.revision = (select min(revision) from change_set)
"""
LOG_OF_OTHERS = """
with taken as (
  update district set revision = revision + $2::bigint returning district_id, revision - $2 as before
), change_sets as (
  insert into change_set (district_id, revision, source, actor)
  select district_id, before + n, 'ADMIN', 'ADMIN' from taken, generate_series(1, $2) n
)
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids, turned_on,
  reasons, lowest_id, highest_id)
select t.district_id, t.before + n, 'PERSON', bucket, 'PREFERENCES', 'CELL_PHONE', 'VOICE', ids, '{1}', 1,
  ids[1], ids[cardinality(ids)]
from taken t
join (
  select district_id, bucket_of(person_id) as bucket, array_agg(person_id order by person_id) as ids
  from person where person_id % 3 > 0 and person_id <> all ($1::bigint[])
  group by district_id, bucket_of(person_id)
) others using (district_id)
cross join generate_series(1, $2) n
"""
SELECTED = """
select p.person_id, p.source_id from person p where exists (
  select from district_assignment a where a.district_id = p.district_id and a.person_id = p.person_id
) order by p.person_id limit 1
"""


@dataclass(frozen=True, slots=True)
class People:
    """Whom the tokens are for, and what ids the documents name, all as the API writes them."""

    sources: Mapping[Role, str | None]
    persons: Mapping[Role, Sequence[str]]
    households: Sequence[str]
    schools: Sequence[str]
    filters: Sequence[str]
    runs: Sequence[str]
    many: Sequence[str]


@dataclass(slots=True)
class Found:
    """A document, and what it cost."""

    shape: Shape
    text: str
    cost: Cost
    seconds: float
    answer_bytes: int

    def worth(self, by: str) -> float:
        return self.cost.bytes if by == BYTES else self.cost.seconds


@dataclass(slots=True)
class Search:
    """What was found for one role and kind of operation."""

    role: Role
    operation: str
    words: Vocabulary
    best: dict[str, list[Found]] = field(default_factory=lambda: {BYTES: [], CPU: []})
    tried: int = 0
    admitted: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.role.lower()}.{self.operation.lower()}"

    def keep(self, found: Found) -> bool:
        """Keep what is among the twelve worst by either measure; tell whether it is."""
        kept = False
        for by, each in self.best.items():
            each.append(found)
            each.sort(key=lambda f: f.worth(by), reverse=True)
            del each[12:]
            kept = kept or found in each
        return kept


# ── the district ────────────────────────────────────────────────────────────────────────────────


async def prepare(dsn: str, students: int) -> None:
    """Make the district, once: a family with many children and a long history, and changes of others."""
    conn = await asyncpg.connect(dsn)
    try:
        if await conn.fetchval("select to_regclass('bench_family')"):
            await migrate(cast(Connection, conn))
            return
        await make_district(dsn, students)
        family = await conn.fetchrow(FAMILY, CHILDREN)
        members = [family["contact_id"], *family["students"]]
        await conn.execute(LOG, members, CHANGES)
        await conn.execute(LOG_OF_OTHERS, members, OTHERS)
        await conn.execute("create table bench_family as select unnest($1::bigint[]) as person_id", members)
        await conn.execute("vacuum analyze")
    finally:
        await conn.close()


async def make_runs(client: GraphQLClient) -> None:
    """Save filters, and have a run applied and one planned, if there are none yet."""
    known = await client.execute("{ savedFilters { id } batchRuns { edges { node { id } } } }")
    if known["savedFilters"]:
        return
    save = "mutation ($input: SaveFilterInput!) { saveFilter(input: $input) { userErrors { message } } }"
    for n in range(30):
        kind, criteria = (
            ("STUDENT", {"all": [{"field": "grade", "in": [f"{n % 12 + 1:02}"]}]})
            if n % 3
            else ("CENSUS", {"all": []})
        )
        await client.execute(save, {"input": {"name": f"Filter {n}", "kind": kind, "criteria": criteria}})
    runs = Runs(client)
    cells = {"CELL_PHONE:GENERAL": "ON", "EMAIL:STAFF": "ON", "EMAIL:GENERAL": "OFF"}
    await runs.ended(await runs.submit("STUDENT_CONTACTS", cells))
    await runs.ended(
        await runs.submit("STUDENT_CONTACTS", {**cells, "EMAIL:GENERAL": "ON"}, dryRun=True), "PLANNED"
    )


async def look_up(dsn: str) -> People:
    conn = await asyncpg.connect(dsn)

    async def ids(prefix: str, query: str) -> list[str]:
        return [f"{prefix}_{row[0]}" for row in await conn.fetch(query)]

    try:
        family = await ids("person", "select person_id from bench_family")
        staff = await conn.fetchrow(SELECTED)
        source = "select source_id from person where person_id = $1"
        guardian = await conn.fetchval(source, int(family[0].split("_")[1]))
        student = await conn.fetchval(source, int(family[1].split("_")[1]))
        many = await ids("person", "select person_id from person order by person_id desc limit 60")
        own = [family[0], family[1], family[2]]
        homes = (
            "select household_id from household_member join bench_family using (person_id) group by 1 limit 4"
        )
        return People(
            {
                Role.GUARDIAN: guardian, Role.STUDENT: student, Role.STAFF: staff["source_id"],
                Role.VENDOR: None, Role.ADMIN: None,
            },
            {
                Role.GUARDIAN: own, Role.STUDENT: own[1:2], Role.STAFF: [f"person_{staff['person_id']}"],
                Role.VENDOR: own, Role.ADMIN: own,
            },
            await ids("household", homes),
            await ids("school", "select school_id from school order by school_id"),
            await ids("filter", "select saved_filter_id from saved_filter order by 1"),
            await ids("run", "select batch_run_id from batch_run order by 1"),
            many,
        )  # fmt: skip
    finally:
        await conn.close()


def vocabulary(schema: Any, role: Role, operation: str, people: People) -> Vocabulary:
    """Return what a role may write in an operation of a kind."""
    persons, homes = list(people.persons[role]), list(people.households)
    quoted = {k: [f'"{each}"' for each in v] for k, v in (("p", persons), ("h", homes), ("r", people.runs))}
    many = ", ".join(f'"{each}"' for each in people.many)
    school, first_filter = people.schools[0], people.filters[0]
    cell = "{ contactPoint: CELL_PHONE, method: VOICE, reason: GENERAL, on: true }"
    home_cell = cell.replace("CELL", "HOUSEHOLD")
    batch = (
        '{ mode: "STUDENTS", waitSeconds: 0, idempotencyKey: "worst", dryRun: true,'
        ' cells: [{ contactPoint: CELL_PHONE, reason: "GENERAL", set: ON }] }'
    ).replace('"GENERAL"', "GENERAL" if False else '"GENERAL"')
    arguments = {
        "person.id": quoted["p"], "household.id": quoted["h"], "batchRun.id": quoted["r"],
        "node.id": [*quoted["p"], *quoted["h"], *quoted["r"], f'"{school}"', f'"{first_filter}"'],
        "activeOnly": ["false", ""], "messengerOnly": ["", "true"],
        "people.filter": [
            "", "", '{ search: "a" }', '{ search: "a b c d e f g h" }', "{ audience: STUDENTS }",
            "{ audience: STUDENT_CONTACTS }", "{ audience: STAFF }", "{ withoutMessengerContact: true }",
            "{ withoutMessengerContact: false }", f'{{ schoolId: "{school}", grade: "09" }}', f"{{ ids: [{many}] }}",
            '{ search: "zz", withoutMessengerContact: true, audience: STUDENTS }',
        ],
        "batchOptions.mode": ['"STUDENT_CONTACTS"', '"STUDENTS"'],
        "batchOptions.scope": ["", '{ grades: ["09", "10"] }', f'{{ schoolIds: ["{school}"] }}'],
        "savedFilters.kind": ["", "STUDENT", "CENSUS"],
        "setPreferences.input": [f"{{ personId: {p}, cells: [{cell}] }}" for p in quoted["p"]],
        "setHouseholdPreferences.input": [f"{{ householdId: {h}, cells: [{home_cell}] }}" for h in quoted["h"]],
        "saveFilter.input": [
            f'{{ id: "{first_filter}", name: "Filter 0", kind: CENSUS, criteria: "{{}}" }}'.replace('"{}"', "{all: []}")
        ],
        "batchSetPreferences.input": [batch],
    }  # fmt: skip
    roots = {
        "Mutation": ["setPreferences", "setHouseholdPreferences", "saveFilter", "batchSetPreferences"],
        "Subscription": ["batchRun"],
    }.get(operation)
    if roots is None:
        roots = ["viewer", "person", "people", "household", "households", "node", "schools", "contactReasons"]
        if role is Role.ADMIN:
            roots += ["batchModes", "plugins", "batchOptions", "batchRun", "batchRuns", "savedFilters"]
    longest = 1_000 if role is Role.VENDOR else 100
    firsts = [1, 2, 5, 10, 20, 50, longest, longest]
    hidden = frozenset() if role is Role.ADMIN else frozenset({"Change.run"})
    return Vocabulary(schema, operation, roots, arguments, firsts, hidden)


# ── one document ────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Lab:
    """A server, its backends, and a client of every role."""

    server: Server
    backends: Backends
    session: aiohttp.ClientSession
    people: People

    async def ask(self, role: Role, text: str) -> tuple[float, bytes]:
        headers = {"Authorization": f"Bearer {token(role, self.people.sources[role])}", "Accept": ACCEPT}
        start = time.perf_counter()
        try:
            async with self.session.post(self.server.url, json={"query": text}, headers=headers) as response:
                body = await response.read()
        except TimeoutError:
            body = b'{"errors":[{"message":"no answer","extensions":{"code":"NO_ANSWER"}}]}'
        return time.perf_counter() - start, body

    async def try_(self, search: Search, shape: Shape) -> Found | None:
        """Measure a document; None where it is refused."""
        search.tried += 1
        text = written(shape, search.words)
        if not await self.backends.rested():
            await self.backends.renew()
        async with self.backends.measured() as cost:
            seconds, body = await self.ask(search.role, text)
        code = _refusal(body)
        if cost.stopped:
            await asyncio.sleep(0.2)
        elif code and cost.bytes < 2 * MIB and cost.seconds < 0.05:
            search.failures[code] = search.failures.get(code, 0) + 1
            return None
        search.admitted += 1
        return Found(shape, text, cost, seconds, len(body))


def _refusal(body: bytes) -> str:
    """Return the code of the first error in an answer, be it JSON or events; empty where there is none."""
    text = next((line[5:] for line in body.splitlines() if line.startswith(b"data:") and len(line) > 6), body)
    if b'"errors"' not in text:
        return ""
    answer = orjson.loads(text)
    return str(answer["errors"][0]["extensions"]["code"]) if answer.get("errors") else ""


async def known(lab: Lab) -> Table:
    """Measure the documents that the tests keep, each on a fresh backend."""
    table = Table(title="The documents kept in tests/support/worst_documents.py")
    for heading in ("role", "document", "MiB", "CPU ms", "answer kB", "refused", ""):
        table.add_column(heading, justify="left" if heading in ("role", "document", "refused") else "right")
    ids = {
        "person": lab.people.persons[Role.ADMIN][0],
        "school": lab.people.schools[0],
        "run": lab.people.runs[-1],
    }
    for role, documents in DOCUMENTS.items():
        most = BOUNDS[role in PORTAL]
        for name, text in documents.items():
            for key, value in ids.items():
                text = text.replace(f"{{{key}}}", value)  # noqa: PLW2901
            await lab.backends.renew()
            async with lab.backends.measured() as cost:
                _, body = await lab.ask(role, text)
            table.add_row(role, name, *cells(cost, len(body)), _refusal(body), verdict(cost, most))
    return table


# ── the search ──────────────────────────────────────────────────────────────────────────────────


async def climb(
    lab: Lab, search: Search, seconds: float, chance: random.Random, known: Sequence[Shape]
) -> None:
    """Change the worst documents known until the time is over; each measure has its turn."""
    shaper = Shaper(search.words, chance)
    end = time.monotonic() + seconds
    for shape in [*known, *(shaper.seed(depth) for depth in range(1, 7))]:
        if found := await lab.try_(search, shape):
            search.keep(found)
    for shape in shaper.single():
        for times in range(15, 0, -1):  # as often as it is admitted
            if found := await lab.try_(search, repeated(shape, times)):
                search.keep(found)
                break
    print(f"{search.name}: begun after {time.monotonic() - end + seconds:.0f} s", flush=True)
    end = max(end, time.monotonic() + seconds / 2)
    turn = 0
    while time.monotonic() < end:
        turn += 1
        best = search.best[BYTES if turn % 2 else CPU]
        if best and chance.random() < 0.9:
            parent = best[min(int(chance.expovariate(0.5)), len(best) - 1)].shape
        else:
            parent = shaper.seed(chance.randint(1, 5))
        found = await lab.try_(search, shaper.changed(parent))
        if found is not None:
            search.keep(found)


async def again(lab: Lab, search: Search) -> None:
    """Measure the worst once more on a fresh backend, three times; the median counts."""
    for by, each in search.best.items():
        for found in each[:3]:
            costs = []
            for _ in range(3):
                await lab.backends.renew()
                async with lab.backends.measured() as cost:
                    await lab.ask(search.role, found.text)
                costs.append(cost)
            found.cost.bytes = sorted(c.bytes for c in costs)[1]
            found.cost.seconds = sorted(c.seconds for c in costs)[1]
        each.sort(key=lambda f: f.worth(by), reverse=True)


# ── the server itself ───────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def stalls(server: Server) -> AsyncIterator[list[float]]:
    """Ask /healthz again and again; give the times of its answers, in seconds, the last being added at the end."""
    seen: list[float] = [0.0]
    url = f"http://127.0.0.1:{server.port}/healthz"

    async def probe() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                start = time.perf_counter()
                async with session.get(url) as response:
                    await response.read()
                seen.append(time.perf_counter() - start)
                await asyncio.sleep(0.01)

    probing = asyncio.create_task(probe())
    try:
        yield seen
    finally:
        probing.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
            await probing


async def flood(lab: Lab, searches: Sequence[Search], count: int, chance: random.Random) -> Table:
    """Send many different documents, small and large, and tell what the server and its backends took meanwhile."""
    async with stalls(lab.server) as idle:
        await asyncio.sleep(1)
    shapes = [(s, found.shape) for s in searches if s.operation == "Query" for found in s.best[BYTES]]
    table = Table(title=f"The server, over {count} different queries")
    for heading in (
        "after",
        "server MiB",
        "backends MiB above rest",
        "longest wait for /healthz, ms",
        "before, idle",
    ):
        table.add_column(heading, justify="right")
    await lab.backends.renew()
    sent = 0
    table.add_row("0", f"{memory(lab.server.pid)['VmRSS'] / MIB:.0f}", "", "", f"{max(idle) * 1000:.0f}")
    while sent < count:
        async with lab.backends.measured() as cost, stalls(lab.server) as seen:
            for _ in range(min(500, count - sent)):
                search, shape = chance.choice(shapes)
                small = Shaper(search.words, chance).seed(chance.randint(1, 2))
                text = written(chance.choice([small, small, small, shape]), search.words)
                await lab.ask(search.role, f"# {sent}\n{text}")
                sent += 1
        size = memory(lab.server.pid)["VmRSS"] / MIB
        table.add_row(f"{sent}", f"{size:.0f}", f"{cost.bytes / MIB:.0f}", f"{max(seen) * 1000:.0f}", "")
    return table


async def hostile(lab: Lab) -> Table:
    """Tell how long /healthz waits while each document that is refused before it is read is answered."""
    table = Table(title="Documents that are refused before they are read")
    for heading in ("document", "longest wait for /healthz, ms"):
        table.add_column(heading, justify="right")
    for name, text in HOSTILE.items():
        async with stalls(lab.server) as seen:
            await asyncio.sleep(0.05)
            await lab.ask(Role.GUARDIAN, text)
            await asyncio.sleep(0.05)
        table.add_row(name, f"{max(seen) * 1000:.0f}")
    return table


# ── what is shown ───────────────────────────────────────────────────────────────────────────────


def cells(cost: Cost, answer_bytes: int) -> tuple[str, str, str]:
    memory_ = f"{cost.bytes / MIB:.1f}{'+' if cost.stopped else ''}"
    return memory_, f"{cost.seconds * 1000:.0f}", f"{answer_bytes / 1000:.0f}"


def verdict(cost: Cost, most: tuple[int, float]) -> str:
    over = cost.stopped or cost.bytes > most[0] or cost.seconds > most[1]
    return "[red]over[/]" if over else "ok"


def report(searches: Sequence[Search]) -> Table:
    table = Table(title=f"The most costly queries found, {date.today()}")
    for heading in (
        "role",
        "operation",
        "tried",
        "answered",
        "by",
        "MiB",
        "CPU ms",
        "answer kB",
        "bound",
        "",
    ):
        table.add_column(heading, justify="left" if heading in ("role", "operation", "by") else "right")
    for search in searches:
        most = BOUNDS[search.role in PORTAL]
        for by, each in search.best.items():
            for n, found in enumerate(each[:3]):
                asked = (search.role, search.operation, str(search.tried), str(search.admitted))
                table.add_row(
                    *(("", "", "", "") if n else asked),
                    by,
                    *cells(found.cost, found.answer_bytes),
                    f"{most[0] // MIB} MiB, {most[1] * 1000:.0f} ms",
                    verdict(found.cost, most),
                )
    return table


def save(named: str | None, searches: Sequence[Search]) -> Path:
    """Write the documents found to files, and return their folder."""
    folder = Path(named or tempfile.mkdtemp(prefix="worst-queries-"))
    folder.mkdir(parents=True, exist_ok=True)
    for search in searches:
        for by, each in search.best.items():
            for n, found in enumerate(each):
                head = f"# {found.cost.bytes / MIB:.1f} MiB, {found.cost.seconds * 1000:.0f} ms of CPU\n"
                (folder / f"{search.name}.{by}.{n}.graphql").write_text(
                    head + found.text + "\n", encoding="utf-8"
                )
    return folder


@contextlib.contextmanager
def database(keep: Path | None) -> Iterator[str]:
    with ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-")))
        else:
            folder = keep
        yield stack.enter_context(embedded_postgres(folder, delete=keep is None))


async def run(options: argparse.Namespace, dsn: str) -> None:
    chance = random.Random(options.seed)
    await prepare(dsn, options.students)
    schema = build_schema().graphql
    conn = await asyncpg.connect(dsn)
    settings = dict(option.split("=", 1) for option in options.set)
    with gql_server(
        dsn, POOL_MIN_SIZE="1", POOL_MAX_SIZE="2", STATEMENT_TIMEOUT="20", LOG_LEVEL="ERROR", **settings
    ) as server:
        async with (
            GraphQLClient(server.url, token()) as client,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
        ):
            await until_up(client)
            await make_runs(client)
            people = await look_up(dsn)

            async def warm() -> None:
                headers = {"Authorization": f"Bearer {token()}"}
                async with session.post(server.url, json={"query": WARM}, headers=headers) as response:
                    await response.read()

            backends = Backends(conn, warm)
            await backends.renew()
            lab = Lab(server, backends, session, people)
            searches = [
                Search(role, operation, vocabulary(schema, role, operation, people))
                for role in ROLES
                if not options.roles or role in options.roles
                for operation in (("Query", "Mutation", "Subscription") if role is Role.ADMIN else ("Query",))
            ]
            Console(width=130).print(await known(lab))
            for search in searches:
                await climb(lab, search, options.seconds, chance, ())
                await again(lab, search)
                Console(width=130).print(report([search]))
                print(search.failures, flush=True)
                folder = save(options.documents, searches)
            Console(width=130).print(report(searches))
            print(f"The documents are in {folder}.", flush=True)
            if options.flood:
                Console(width=130).print(await flood(lab, searches, options.flood, chance))
                Console(width=130).print(await hostile(lab))
    await conn.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=60, help="of search, for each role and operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--roles", nargs="*", default=(), help="search for these roles alone")
    parser.add_argument("--flood", type=int, default=3_000, help="different queries sent to watch the server")
    parser.add_argument("--keep", type=Path, help="folder in which the district is kept")
    parser.add_argument("--documents", help="folder for the documents found")
    parser.add_argument("--set", nargs="*", default=(), help="settings of the server, as MAX_PRICE=1000")
    options = parser.parse_args()
    with database(options.keep) as dsn:
        uvloop.run(run(options, dsn))


if __name__ == "__main__":
    main()
