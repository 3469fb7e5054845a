"""How pages of a large district are found: what is read for them does not grow with the district, and it is right."""

import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gql_server.api import people_filter
from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.domain.viewer import District, Role
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import create_district
from tests.support.counting import CountingDatabase
from tests.support.graph import GraphClient

pytestmark = pytest.mark.slow

PEOPLE, WALK, LONG_WALK = 9_000, 300, 600
MOST_ROWS = 4_000
"""How many rows a page may read: those counted to see whether they are few, a walk, and what is looked up for some."""

FILL = (
    "insert into school (district_id, source_id, name) select $1, n::text, 'School' from generate_series(1, 20) n"
    " where $2 > 0",
    "insert into calendar (district_id, school_id, school_year) select $1, school_id, year from school,"
    " generate_series(2025, 2026) year where $2 > 0",
    "insert into person (district_id, source_id, first_name, last_name) select $1, 'P' || n, 'First' || n % 89,"
    " (case when n % 5 = 0 then 'name' else 'Name' end) || n * 7919 % 997 from generate_series(1, $2) n",
    # Every third is a student, in one of twelve grades. Of a thirteenth there are few.
    "insert into enrollment (district_id, person_id, school_id, school_year, grade, end_date)"
    " select p.district_id, p.person_id, s.school_id, 2026,"
    " case when p.n % 3000 = 0 then 'KG' else (p.n / 3 % 12 + 1)::text end,"
    " case when p.n % 7 = 0 then date '2020-01-01' end"
    " from (select *, substr(source_id, 2)::integer n from person) p"
    " join (select *, row_number() over (order by school_id) n from school) s on s.n = p.n % 20 + 1"
    " where p.district_id = $1 and p.n % 3 = 0 and $2 > 0",
    # The next is their contact, but one in sixty gets no messages; staff are few.
    "insert into relationship (district_id, student_id, contact_id, kind, messenger)"
    " select s.district_id, s.person_id, c.person_id, 'Mother', s.person_id % 60 <> 0 from person s"
    " join person c on c.district_id = s.district_id and c.person_id = s.person_id + 1"
    " where s.district_id = $1 and substr(s.source_id, 2)::integer % 3 = 0 and $2 > 0",
    "insert into district_assignment (district_id, person_id, school_id) select p.district_id, p.person_id,"
    " p.person_id / 5 % 20 + 1 from person p where district_id = $1 and person_id % 5 = 1 and $2 > 0",
    "insert into household (district_id, name, phone) select $1, 'Home' || n % 997, n::text"
    " from generate_series(1, $2) n",
    "insert into household_member (district_id, household_id, person_id) select h.district_id, h.household_id,"
    " p.person_id from (select *, row_number() over (order by household_id) n from household) h"
    " join person p on substr(p.source_id, 2)::integer = h.n where h.district_id = $1 and $2 > 0",
    "insert into contact_point (district_id, person_id, kind, value) select district_id, person_id, 'CELL_PHONE',"
    " source_id from person where district_id = $1 and $2 > 0",
    "insert into opt_out (district_id, address, method, source) select district_id, value, 'TEXT', 'VENDOR'"
    " from contact_point where district_id = $1 and $2 > 0",
    "insert into batch_run (district_id, mode, scope, status, requested_by)"
    " select $1, 'STUDENTS', '{}', 'DONE', 'ADMIN' from (select $2::integer) x",
    "insert into batch_rule (district_id, batch_run_id, rule_no, plugin, rule, because, code)"
    " select district_id, batch_run_id, 1, 'p', 'r', 'No.', 'NO' from batch_run where district_id = $1 and $2 > 0",
    "insert into batch_exclusion_block (district_id, batch_run_id, block, rule_no, household, contact_point, reasons,"
    " subject_ids) select r.district_id, r.batch_run_id, row_number() over (), 1, false, 'CELL_PHONE', 3,"
    " array_agg(p.person_id) from person p join batch_run r using (district_id)"
    " where p.district_id = $1 and $2 > 0 group by 1, 2, p.person_id / 1024",
)  # fmt: skip

ENROLLED = "exists (select from enrollment e where e.person_id = p.person_id and e.end_date is null and {})"
CONTACT = "exists (select from relationship r where r.student_id = p.person_id and r.messenger)"
FILTERS: Mapping[str, str] = {
    # A filter, and the people whom it selects, said as plainly as can be.
    '{ search: "first7" }': "p.first_name ~* '^first7'",
    '{ search: "NAME12" }': "p.last_name ~* '^name12'",
    '{ search: "name996 first1" }': "p.last_name ~* '^name996' and p.first_name ~* '^first1'",
    '{ search: "n" }': "true",
    '{ search: "" }': "true",
    '{ search: "zz" }': "false",
    '{ sourceId: "P77" }': "p.source_id = 'P77'",
    '{ grade: "07" }': ENROLLED.format("e.grade = '7'"),
    '{ grade: "KG" }': ENROLLED.format("e.grade = 'KG'"),
    '{ grade: "99" }': "false",
    "{ audience: STUDENTS }": ENROLLED.format("true"),
    "{ audience: STAFF }": "p.person_id % 5 = 1",
    "{ audience: STUDENT_CONTACTS }": "exists (select from relationship r join enrollment e on e.person_id ="
    " r.student_id where r.contact_id = p.person_id and r.messenger and e.end_date is null)",
    "{ withoutMessengerContact: false }": f"{ENROLLED.format('true')} and {CONTACT}",
    '{ schoolId: "school_1" }': f"{ENROLLED.format('e.school_id = 1')} or p.person_id % 100 = 1",
    '{ schoolId: "school_3", grade: "9" }': ENROLLED.format("e.school_id = 3 and e.grade = '9'"),
    '{ schoolId: "school_99" }': "false",
    '{ search: "first", grade: "9" }': ENROLLED.format("e.grade = '9'"),
    '{ search: "first7", audience: STUDENT_CONTACTS }': "p.first_name ~* '^first7'"
    " and exists (select from relationship r join enrollment e on e.person_id = r.student_id"
    " where r.contact_id = p.person_id and r.messenger and e.end_date"
    " is null)",
    '{ ids: ["person_9", "person_3", "person_777777"] }': "p.person_id in (3, 9)",
}
SCANS: Mapping[str, str] = {
    # What few match and no index finds: everything is read, once.
    "{ withoutMessengerContact: true }": f"{ENROLLED.format('true')} and not {CONTACT}",
    '{ withoutMessengerContact: true, grade: "9" }': f"""{ENROLLED.format("e.grade = '9'")} and not {CONTACT}""",
}
WHOLE = """id sourceId active contactPoints { value } preferences { contactPoint on } optOuts { address }
  households { household { id } } contacts { contact { id } } students { student { id } }
  enrollments { grade } districtAssignments { title }"""
OTHERS = {
    "person": f'{{ person(id: "person_15") {{ {WHOLE} }} }}',
    "nobody": f'{{ person(id: "person_777777") {{ {WHOLE} }} }}',
    "people": f"{{ people(first: 20) {{ edges {{ node {{ {WHOLE} }} }} }} }}",
    "node": '{ a: node(id: "person_15") { id } b: node(id: "household_15") { id } c: node(id: "optout_15") { id } }',
    "household": '{ household(id: "household_15") { phone preferences { on } members { person { active } } } }',
    "households": "{ households(first: 100) { edges { node { name phone } } } }",
    "deep households": '{ households(after: "%s") { edges { node { name } } } }',
    "runs": "{ batchRuns { edges { node { queuedBehind { id } revertedBy { id } results { updated } } } } }",
    "exclusions": '{ batchRun(id: "run_1") { exclusions(first: 100) { edges { node { reason } } } } }',
    "deep exclusions": '{ batchRun(id: "run_1") { exclusions(after: "%s") { edges { node { reason } } } } }',
    "last exclusions": '{ batchRun(id: "run_1") { exclusions(after: "%s") { edges { node { reason } } } } }',
    "excluded by rule": '{ batchRun(id: "run_1") { excludedByRule { rule excluded } } }',
}
CURSORS = {
    "deep households": ["Home5", 5_000],
    "deep exclusions": [5, 1000, 0],
    "last exclusions": [99, 1, 0],
}


def cursor(*keys: object) -> str:
    return base64.b64encode(json.dumps(keys).encode()).decode()


def page(given: str, first: int = 50, after: str | None = None) -> str:
    place = f', after: "{after}"' if after else ""
    rows = "edges { node { id } } pageInfo { hasNextPage endCursor }"
    return f"{{ people(filter: {given}, first: {first}{place}) {{ {rows} }} }}"


class Recording(CountingDatabase):
    """Keeps the statement that was sent last, with its values."""

    sent: tuple[str, Sequence[object]] = ("", ())

    def _log(self, record: Any) -> None:
        self.sent = record.query, record.args


@dataclass
class Large:
    """A large district, and what was sent for it."""

    client: GraphClient
    conn: Connection
    district: District
    recording: Recording

    async def ask(self, document: str) -> Any:
        return await self.client.query(self.client.context(self.district), document)

    async def plan(self, document: str, generic: bool) -> dict[str, Any]:
        """Return how the statement of a document is executed, made for its values or for any."""
        await self.ask(document)
        text, values = self.recording.sent
        given = ", ".join(map(literal, values))
        mode = "force_generic_plan" if generic else "force_custom_plan"
        async with self.conn.transaction():
            await self.conn.execute(f"set local plan_cache_mode = {mode}")
            await self.conn.execute(f"prepare asked as {text}")
            explained = await self.conn.fetchval(f"explain (analyze, format json) execute asked ({given})")
            await self.conn.execute("deallocate asked")
        plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
        return plan


def literal(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        value = json.dumps(value, ensure_ascii=False).replace("[", "{").replace("]", "}")
    return "'" + str(value).replace("'", "''") + "'"


@pytest.fixture(params=[True, False], ids=["analyzed", "analyzed before ties"])
async def large(
    request: pytest.FixtureRequest, db: Pool, host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Large]:
    async with db.acquire() as conn:
        district = await create_district(conn, "elm", "Elm", "UTC", host.reasons)
        await conn.execute("set session_replication_role = replica")  # the keys are right, and need no check
        for text in FILL:
            await conn.execute(text, district.district_id, PEOPLE)
            if request.param or text.startswith(("insert into person", "insert into household ")):
                await conn.execute("analyze")
        monkeypatch.setattr(people_filter, "_WALK", WALK)
        monkeypatch.setattr(people_filter, "_LONG_WALK", LONG_WALK)
        recording = Recording(db)
        large = Large(GraphClient(recording, host), conn, district, recording)
        yield large


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan that were executed."""
    if plan["Actual Loops"]:
        yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def rows_read(plan: dict[str, Any]) -> dict[str, float]:
    """Return how many rows of each table were read, whether or not they were wanted."""
    read: dict[str, float] = {}
    for node in nodes(plan):
        if (table := node.get("Relation Name")) and table != "contact_reason":  # of which there are few
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            rows += node.get("Rows Removed by Index Recheck", 0)
            read[table] = read.get(table, 0) + rows * node["Actual Loops"]
    return read


@pytest.mark.parametrize("generic", [True, False], ids=["any values", "these values"])
async def test_a_page_reads_few_rows(large: Large, generic: bool) -> None:
    """Whatever is asked for, on old statistics too, by a plan for its values and by one for any: no page reads more
    than a part of a large district that is the same for every district."""
    documents = {given: page(given) for given in FILTERS}
    documents |= {f"deep {given}": page(given, after=cursor("Name5", "First5", 1)) for given in FILTERS}
    documents |= {
        name: text % cursor(*CURSORS[name]) if name in CURSORS else text for name, text in OTHERS.items()
    }
    many = {}
    for name, document in documents.items():
        read = rows_read(await large.plan(document, generic))
        if sum(read.values()) > MOST_ROWS:
            many[name] = read
    assert not many


async def test_pages_hold_whom_the_filter_selects(large: Large) -> None:
    """However a page is found, by walking or by an index, it holds the same people in the same order (D27)."""
    for given, condition in {**FILTERS, **SCANS}.items():
        rows = await large.conn.fetch(
            f"select 'person_' || p.person_id as id, last_name, first_name, person_id from person p"
            f" where {condition} order by last_name, first_name, person_id"
        )
        expected = [row["id"] for row in rows]
        for start in {0, len(rows) // 2, max(0, len(rows) - 60)}:
            after = cursor(*rows[start - 1][1:]) if start else None
            found = (await large.ask(page(given, 100, after)))["people"]
            assert [edge["node"]["id"] for edge in found["edges"]] == expected[start : start + 100], (
                given,
                start,
            )
            assert found["pageInfo"]["hasNextPage"] is (len(expected) > start + 100), (given, start)


async def test_exclusions_are_paged_in_the_order_in_which_they_stand(large: Large) -> None:
    """Page by page every exclusion comes once, by block, place and reason, whatever the size of the pages (D20)."""
    expected = await large.conn.fetch(
        "select x.block, x.place, bit from batch_exclusion x, unnest(array[0, 1]) bit order by 1, 2, 3"
    )
    after, found = None, []
    for first in (1, 7, 3000, 10_000, 10_000):
        place = f', after: "{after}"' if after else ""
        rows = "edges { cursor } pageInfo { hasNextPage endCursor }"
        document = f'{{ batchRun(id: "run_1") {{ exclusions(first: {first}{place}) {{ {rows} }} }} }}'
        got = (await large.ask(document))["batchRun"]["exclusions"]
        found += [json.loads(base64.b64decode(edge["cursor"])) for edge in got["edges"]]
        after = got["pageInfo"]["endCursor"]
        assert got["pageInfo"]["hasNextPage"] is (len(found) < len(expected))
    assert found == [list(row) for row in expected]


async def test_a_portal_user_is_looked_up(large: Large) -> None:
    """What a contact sees is found by their own ties, not by reading the district, whichever table autovacuum has
    analyzed last (D27)."""
    context = large.client.context(large.district, Role.GUARDIAN, "P4")
    mine = await large.client.query(context, page('{ grade: "2" }'))
    assert [edge["node"]["id"] for edge in mine["people"]["edges"]] == ["person_3"]
    tables = [text.split()[2] for text in FILL]
    for analyzed in tables:
        await large.conn.execute(f"analyze {analyzed}")
        for document in (
            page('{ search: "f" }'),
            page('{ schoolId: "school_4" }'),
            f"{{ viewer {{ person {{ {WHOLE} }} }} }}",
        ):
            await large.client.query(context, document)
            text, values = large.recording.sent
            explained = await large.conn.fetchval(f"explain (analyze, format json) {text}", *values)
            read = rows_read(json.loads(explained)[0]["Plan"])
            assert sum(read.values()) < 300, (analyzed, document, read)
