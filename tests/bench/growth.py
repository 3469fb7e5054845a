"""`python -m tests.bench.growth [--students N N ...]`: whether reads grow with the district.

A real server with a sample district of each size is asked every root field and every filter, one after another, the
same of each district in turns. A table shows the median milliseconds by the size of the district, how much longer the
largest took than the smallest, and PostgreSQL's processor time for the largest. What an index can answer may take at
most 1.5 times as long, and less than 20 ms.

Exact counts, and searches for what few people match and no index finds, read all rows that decide. They are compared
with one scan of these rows in the largest district, by a bare statement.
"""

import argparse
import base64
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import uvloop
from rich.table import Table

from gql_server.api.auth import Tokens
from gql_server.api.client import GraphQLClient
from gql_server.db.embedded import embedded_postgres
from gql_server.db.migrations import migrate
from gql_server.db.pool import connect
from gql_server.db.protocols import Connection
from gql_server.db.statements import resource_folder
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.services.sample import make_sample
from tests.bench.measure import (
    ROUNDS,
    postmaster,
    print_tables,
    processor_milliseconds,
    results_table,
    show,
    versions,
)
from tests.bench.servers import KEY, Runs, gql_server, until_up

GROWTH, LONGEST_MS, OF_A_SCAN = 1.5, 20.0, 1.2
ASKED = 10
"""How often each read is asked in a round."""

PERSON = """id active contactPoints { value } preferences { contactPoint on } optOuts { id }
  households(activeOnly: false) { household { name } } contacts { contact { id } } students { student { id } }
  enrollments(activeOnly: false) { grade } districtAssignments { title }"""
HISTORY = "history { edges { node { revision } } }"
PAGE = "edges { cursor node { id firstName lastName active } } pageInfo { hasNextPage endCursor }"
ENROLLED = "e.district_id = $1 and active_on(e.start_date, e.end_date, current_date)"
TIED = "r.district_id = $1 and r.messenger and not r.no_contact and active_on(r.start_date, r.end_date, current_date)"
SCANS = {
    # One scan of what must be looked at, in plain SQL.
    "people: withoutMessengerContact true": f"select count(*) from enrollment e where {ENROLLED} and not exists"
    f" (select from relationship r where {TIED} and r.student_id = e.person_id)",
    "batchOptions: student contacts": "select count(*) from (select distinct p.person_id from relationship r"
    " join person p on p.district_id = $1 and p.person_id = r.contact_id"
    f" where {TIED.replace('not r.no_contact', 'true')}"
    f" and r.student_id in (select e.person_id from enrollment e where {ENROLLED})) x",
    "batchOptions: students": "select count(*) from (select distinct p.person_id from enrollment e"
    f" join person p on p.district_id = $1 and p.person_id = e.person_id where {ENROLLED}) x",
    "savedFilters: matches": "select count(*) from person p where p.district_id = $1 and exists"
    f" (select from enrollment e where {ENROLLED} and e.person_id = p.person_id and ltrim(e.grade, '0') = '9')",
}  # fmt: skip

LATER_SETS = """
insert into change_set (district_id, revision, source, actor)
select $1::integer, $2::bigint + n, 'ADMIN', 'ADMIN' from generate_series(1, $3::bigint) n
"""
LATER_CHANGES = """
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids, turned_on,
  reasons, lowest_id, highest_id)
select $1::integer, $2::bigint + n, 'HOUSEHOLD', bucket_of($4), 'PREFERENCES', 'HOUSEHOLD_PHONE', 'VOICE', array[$4],
  '{1}', 1, $4, $4
from generate_series(1, $3::bigint) n
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A district, and the documents that are asked of it by name."""

    district_id: int
    client: GraphQLClient
    documents: Mapping[str, str]


def cursor(*keys: object) -> str:
    return base64.b64encode(json.dumps(keys, ensure_ascii=False).encode()).decode()


def people(given: str, after: str = "") -> str:
    place = f', after: "{after}"' if after else ""
    return f"{{ people(filter: {{{given}}}, first: 50{place}) {{ {PAGE} }} }}"


async def filters(conn: Connection, district_id: int) -> Mapping[str, str]:
    """Return the pages of people, whose names and schools are those of the district."""
    middle = await conn.fetchrow(
        "select last_name, first_name, person_id from person where district_id = $1 order by 1, 2, 3"
        " offset (select count(*) / 2 from person where district_id = $1) limit 1", district_id,
    )  # fmt: skip
    assert middle is not None
    last, first, person = middle
    after = cursor(last, first, person)
    sql = "select school_id from enrollment where district_id = $1 group by 1 order by count(*) limit 1"
    school = await conn.fetchval(sql, district_id)
    ids = ", ".join(f'"person_{person + n}"' for n in range(100))
    given = {
        "everybody": "", "one letter": 'search: "s"', "the last letter": 'search: "w"',
        "a last name": f'search: "{last}"', "a first name": f'search: "{first}"',
        "both names": f'search: "{last} {first}"', "nobody's name": 'search: "zzyzx"',
        "a letter and nobody's name": 'search: "s zzyzx"', "sourceId": 'sourceId: "S000100"',
        "sourceId of nobody": 'sourceId: "nobody"', "ids": f"ids: [{ids}]",
        "school": f'schoolId: "school_{school}"', "no school": 'schoolId: "school_999999"',
        "school and grade": f'schoolId: "school_{school}", grade: "9"',
        "school and name": f'schoolId: "school_{school}", search: "s"',
        "grade": 'grade: "9"', "no grade": 'grade: "77"', "grade and name": 'grade: "9", search: "s"',
        "no grade and name": 'grade: "77", search: "s"', "students": "audience: STUDENTS",
        "contacts": "audience: STUDENT_CONTACTS", "staff": "audience: STAFF",
        "contacts and name": 'audience: STUDENT_CONTACTS, search: "s"',
        "contacts and nobody's name": 'audience: STUDENT_CONTACTS, search: "zzyzx"',
        "withoutMessengerContact true": "withoutMessengerContact: true",
        "withoutMessengerContact false": "withoutMessengerContact: false",
    }  # fmt: skip
    deep = ("everybody", "one letter", "a last name", "school", "grade", "contacts", "staff")
    pages = {f"people: {name}": people(text) for name, text in given.items()}
    return pages | {f"people: {name}, deep": people(given[name], after) for name in deep}


async def documents(conn: Connection, district_id: int, run: str, former: int) -> Mapping[str, str]:
    """Return what is asked of a district: every root field, and every filter."""
    person, home, school, optout = [
        await conn.fetchval(
            f"select {table}_id from {table} where district_id = $1 order by 1 offset 3 limit 1", district_id
        )
        for table in ("person", "household", "school", "opt_out")
    ]
    contact = await conn.fetchval(
        "select contact_id from relationship where district_id = $1 group by 1 order by count(*) desc, 1 limit 1",
        district_id,
    )
    full = await conn.fetchval(
        "select household_id from household_member where district_id = $1 group by 1 order by count(*) desc, 1 limit 1",
        district_id,
    )
    name = await conn.fetchval(
        "select name from household where district_id = $1 order by 1"
        " offset (select count(*) / 2 from household where district_id = $1) limit 1", district_id,
    )  # fmt: skip
    blocks = await conn.fetchval(
        "select max(block) from batch_exclusion_block where district_id = $1", district_id
    )
    kept_out = "edges { cursor node { contactPoint reason because person { id } } } pageInfo { endCursor }"
    deep, end = (
        f'exclusions(after: "{cursor(*place)}")' for place in ((blocks // 2, 9, 1), (blocks, 9999, 1))
    )
    members = "phone members { person { id active } }"
    homes = "edges { cursor node { id name phone } } pageInfo { hasNextPage endCursor }"
    of_run = f'batchRun(id: "{run}")'
    return {
        "viewer, headRevision": "{ viewer { role person { id } } headRevision }",
        "schools": "{ schools { id name } }",
        "contactReasons, batchModes, plugins": "{ contactReasons { code } batchModes { code } plugins { name } }",
        "node: person": f'{{ node(id: "person_{person}") {{ id }} }}',
        "node: household": f'{{ node(id: "household_{home}") {{ id }} }}',
        "node: school": f'{{ node(id: "school_{school}") {{ id }} }}',
        "node: opt-out": f'{{ node(id: "optout_{optout}") {{ id }} }}',
        "person, all fields": f'{{ person(id: "person_{person}") {{ {PERSON} }} }}',
        "person with most students": f'{{ person(id: "person_{contact}") {{ {PERSON} }} }}',
        "person, history": f'{{ person(id: "person_{person}") {{ {HISTORY} }} }}',
        "former member, history": f'{{ person(id: "person_{former}") {{ {HISTORY} }} }}',
        "person: nobody": f'{{ person(id: "person_999999999") {{ {PERSON} }} }}',
        "household, the largest": f'{{ household(id: "household_{full}") {{ {members} }} }}',
        "people, all fields": f"{{ people(first: 20) {{ edges {{ node {{ {PERSON} }} }} }} }}",
        **await filters(conn, district_id),
        "households": f"{{ households(first: 100) {{ {homes} }} }}",
        "households, deep": f'{{ households(first: 100, after: "{cursor(name, home)}") {{ {homes} }} }}',
        "batchRuns": "{ batchRuns { edges { node { id status results { updated } } } } }",
        "batchRun: forecast": f"{{ {of_run} {{ status forecast {{ updated excluded }} }} }}",
        "batchRun: excludedByRule": f"{{ {of_run} {{ excludedByRule {{ rule excluded }} }} }}",
        "batchRun: samples": f"{{ {of_run} {{ samples {{ person {{ id }} cells {{ reason }} }} }} }}",
        "batchRun: exclusions": f"{{ {of_run} {{ exclusions {{ {kept_out} }} }} }}",
        "batchRun: exclusions, deep": f"{{ {of_run} {{ {deep} {{ {kept_out} }} }} }}",
        "batchRun: exclusions, end": f"{{ {of_run} {{ {end} {{ {kept_out} }} }} }}",
        "savedFilters": "{ savedFilters { id name } }",
        "savedFilters: matches": "{ savedFilters { matches } }",
        "batchOptions: student contacts": '{ batchOptions(mode: "STUDENT_CONTACTS") { population } }',
        "batchOptions: students": '{ batchOptions(mode: "STUDENTS") { population } }',
    }  # fmt: skip


async def make(conn: Connection, code: str, students: int) -> int:
    """Make the district of a size, and return its id."""
    host = PluginHost([resource_folder("plugins")])
    await make_sample(
        conn, host, code=code, students=students, seed=1, report=lambda text: show(f"{code}: {text}")
    )
    return int(await conn.fetchval("select district_id from district where code = $1", code))


def administrator(url: str, code: str) -> GraphQLClient:
    return GraphQLClient(url, Tokens(KEY).issue(code, Role.ADMIN, None, timedelta(hours=6)))


async def leave(conn: Connection, district_id: int, students: int) -> int:
    """Let somebody leave a household that is then changed as often as there are students, and return who it is."""
    former = await conn.fetchrow(
        "update household_member set start_date = '2001-01-01', end_date = '2001-01-02' where household_member_id ="
        " (select max(household_member_id) from household_member where district_id = $1)"
        " returning person_id, household_id", district_id,
    )  # fmt: skip
    assert former is not None
    head = await conn.fetchval(
        "update district set revision = revision + $2 where district_id = $1 returning revision - $2",
        district_id, students,
    )  # fmt: skip
    await conn.execute(LATER_SETS, district_id, head, students)
    await conn.execute(LATER_CHANGES, district_id, head, students, former["household_id"])
    return int(former["person_id"])


async def prepare(conn: Connection, client: GraphQLClient, code: str, district_id: int, former: int) -> Asked:
    """Save a filter and plan a run with many exclusions in a district."""
    await until_up(client)
    save = "mutation ($input: SaveFilterInput!) { saveFilter(input: $input) { userErrors { message } } }"
    criteria = {"field": "grade", "is": "9"}
    await client.execute(save, {"input": {"name": "Ninth", "kind": "STUDENT", "criteria": criteria}})
    show(f"{code}: a plan")
    runs = Runs(client)
    cells = {"HOME_PHONE:GENERAL": "ON", "EMAIL:STAFF": "ON", "EMAIL:GENERAL": "ON"}
    run = await runs.ended(await runs.submit("STUDENT_CONTACTS", cells, dryRun=True), "PLANNED")
    return Asked(district_id, client, await documents(conn, district_id, run["id"], former))


@dataclass(frozen=True, slots=True)
class Times:
    """The milliseconds of a read in each district, and PostgreSQL's processor time for one in the largest."""

    taken: Sequence[list[float]]
    cpu: float

    @property
    def medians(self) -> Sequence[float]:
        return [statistics.median(each) for each in self.taken]


async def measure(asked: Sequence[Asked], rounds: int, postgres: int) -> Mapping[str, Times]:
    times: dict[str, Times] = {}
    for number, name in enumerate(asked[0].documents, start=1):
        show(f"{number} of {len(asked[0].documents)}: {name}")
        for each in asked:
            await each.client.execute(each.documents[name], {})
        taken: list[list[float]] = [[] for _ in asked]
        cpu = 0.0
        for _ in range(rounds):
            for each, mine in zip(asked, taken, strict=True):
                before = processor_milliseconds(postgres)
                for _ in range(1 if name in SCANS else ASKED):
                    start = time.perf_counter()
                    await each.client.execute(each.documents[name], {})
                    mine.append((time.perf_counter() - start) * 1000)
                cpu += processor_milliseconds(postgres) - before if each is asked[-1] else 0
        times[name] = Times(taken, cpu / len(taken[-1]))
    show("")
    return times


async def scan_milliseconds(conn: Connection, district_id: int, rounds: int) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for name, sql in SCANS.items():
        taken = []
        for _ in range(rounds):
            start = time.perf_counter()
            await conn.fetchval(sql, district_id)
            taken.append((time.perf_counter() - start) * 1000)
        found[name] = statistics.median(taken)
    return found


def report(
    times: Mapping[str, Times], scans: Mapping[str, float], students: Sequence[int]
) -> Sequence[Table]:
    sizes = [f"{n // 1000}k" for n in students]
    growth = results_table("Milliseconds (p50) of a read, by students", *sizes, "times", "CPU", "")
    for name, read in times.items():
        if name not in scans:
            grown = read.medians[-1] / read.medians[0]
            good = grown <= GROWTH and read.medians[-1] < LONGEST_MS
            values = [f"{each:.1f}" for each in read.medians]
            growth.add_row(name, *values, f"{grown:.2f}", f"{read.cpu:.1f}", "good" if good else "MISSED")
    scanning = results_table("What reads all rows that decide", *sizes, "a scan", "times", "CPU", "")
    for name, scan in scans.items():
        read = times[name]
        good = read.medians[-1] <= OF_A_SCAN * scan
        values = [f"{each:.0f}" for each in [*read.medians, scan]]
        verdict = "good" if good else "MISSED"
        scanning.add_row(name, *values, f"{read.medians[-1] / scan:.2f}", f"{read.cpu:.0f}", verdict)
    return growth, scanning


async def compare(dsn: str, students: Sequence[int], rounds: int) -> None:
    codes = [f"of-{n}" for n in students]
    async with AsyncExitStack() as stack:
        conn = await stack.enter_async_context(connect(dsn))
        await migrate(conn)
        ids = [await make(conn, code, n) for code, n in zip(codes, students, strict=True)]
        left = [await leave(conn, each, n) for each, n in zip(ids, students, strict=True)]
        show("vacuum")
        await conn.execute("vacuum analyze")
        server = stack.enter_context(gql_server(dsn))
        asked = []
        for code, district_id, former in zip(codes, ids, left, strict=True):
            client = await stack.enter_async_context(administrator(server.url, code))
            asked.append(await prepare(conn, client, code, district_id, former))
        await conn.execute("vacuum analyze")
        times = await measure(asked, rounds, await postmaster(conn))
        scans = await scan_milliseconds(conn, ids[-1], rounds)
    print_tables([*report(times, scans, students), versions("asyncpg")])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gql-server-bench-") as folder,
        embedded_postgres(Path(folder), delete=True) as dsn,
    ):
        uvloop.run(compare(dsn, sorted(options.students), options.rounds))


if __name__ == "__main__":
    main()
