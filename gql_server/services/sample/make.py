"""Makes a sample district: it is generated in chunks, written by COPY, and logged as one change set (D28)."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gql_server.db.protocols import Connection
from gql_server.db.statements import execute, fetch, fetchval, statement
from gql_server.domain.changes import Source
from gql_server.domain.viewer import District
from gql_server.errors import rejected
from gql_server.hooks.host import PluginHost
from gql_server.services.changes import log_slots, take_revision
from gql_server.services.districts import analyze_records, create_district, reason_bits
from gql_server.services.sample import words
from gql_server.services.sample.families import SCHOOL_YEAR, Families
from gql_server.services.sample.people import People
from gql_server.services.sample.reasons import Masks
from gql_server.services.sample.rows import Rows

ACTOR = "SAMPLE"
_CHUNK = 2_000  # students; the rows of a chunk take about 25 MB
_STUDENTS_PER_STAFF_MEMBER = 15
_STUDENTS_PER_SCHOOL = 3_000
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SamplePeople:
    """Source ids of people to sign in as, and the number of rows in each table.

    guardian: has two students, a household of four, and every contact point. student: one of the two students.
    staff: has an active assignment.
    """

    guardian: str
    student: str
    staff: str
    counts: Mapping[str, int]


class Ids:
    """Ids from a sequence, reserved many at a time. They are in order, even if others use the sequence too."""

    def __init__(self, conn: Connection, table: str) -> None:
        self._conn, self._table = conn, table
        self._reserved: list[int] = []

    def __iter__(self) -> "Ids":
        return self

    def __next__(self) -> int:
        return self._reserved.pop()

    async def reserve(self, count: int) -> None:
        """Reserve ids until at least `count` are available."""
        missing = count - len(self._reserved)
        if missing > 0:
            table = {"table_name": self._table, "id_column": f"{self._table}_id"}
            rows = await fetch(self._conn, "sample/reserve_ids", **table, count=missing)
            self._reserved = [row["id"] for row in reversed(rows)] + self._reserved


async def make_sample(
    conn: Connection,
    host: PluginHost,
    *,
    code: str,
    students: int,
    seed: int,
    report: Report | None = None,
) -> SamplePeople:
    """Fill a new district with students, their contacts and staff. Memory does not grow with their number.

    If the process is killed, an empty district is left, which the next call fills. `report` gets a message after each
    chunk. Raises Rejected: INVALID_STUDENTS, DISTRICT_NOT_EMPTY.
    """
    if students < 1:
        raise rejected("INVALID_STUDENTS", "A sample district has at least one student.", "students")
    async with conn.transaction():
        district = await create_district(conn, code, f"{code.title()} School District", "UTC", host.reasons)
    async with conn.transaction():
        sample = await _fill(conn, district, students, seed, report or (lambda _: None))
    await analyze_records(conn)
    return sample


async def _fill(
    conn: Connection, district: District, students: int, seed: int, report: Report
) -> SamplePeople:
    await execute(conn, "sample/lock", district_id=district.district_id)
    if await fetchval(conn, "sample/has_people", district_id=district.district_id):
        raise rejected(
            "DISTRICT_NOT_EMPTY",
            f"The district {district.code!r} has people already. Name a new one.",
            "code",
        )
    counts: Counter[str] = Counter()
    schools = await _schools(conn, district.district_id, students, counts)
    person_ids, household_ids = Ids(conn, "person"), Ids(conn, "household")
    masks = Masks.of(await reason_bits(conn, district.district_id))
    people = People(district.district_id, random.Random(seed), masks, person_ids, household_ids)  # noqa: S311 a sample, not a secret
    families = Families(people, schools)
    done = 0
    while done < students:
        chunk = min(_CHUNK, students - done)
        # A family with one child has at most five people and four households; staff are added to these.
        await person_ids.reserve(chunk * 6 + 10)
        await household_ids.reserve(chunk * 4)
        _add_people(families, chunk)
        await people.rows.copy(conn)
        counts.update({table: len(rows) for table, rows in people.rows.tables()})
        people.rows = Rows()
        done += chunk
        report(f"{done:,} of {students:,} students")
    counts["change"] = await _log(conn, district.district_id)
    return SamplePeople(families.guardian, families.student, families.staff, dict(counts))


def _add_people(families: Families, students: int) -> None:
    """Add staff for that many students, but at least three, and then the students' families."""
    for _ in range(max(3, students // _STUDENTS_PER_STAFF_MEMBER)):
        families.staff_member()
    while students > 0:
        students -= families.family(students)


async def _schools(
    conn: Connection, district_id: int, students: int, counts: Counter[str]
) -> dict[str, Sequence[int]]:
    """Add two or more schools of each level with two school years, and return their ids by level.

    In the second school of each level portal users may not change their own contact information (D23).
    """
    per_level = 2 + students // (len(words.LEVELS) * _STUDENTS_PER_SCHOOL)
    names = [
        (level, f"{_tree(n)} {level} School", n % 4 != 1) for level in words.LEVELS for n in range(per_level)
    ]
    rows = await fetch(
        conn,
        "sample/add_schools",
        district_id=district_id,
        names=[name for _, name, _ in names],
        portals=[portal for _, _, portal in names],
        school_year=SCHOOL_YEAR,
    )
    ids = {row["name"]: row["school_id"] for row in rows}
    counts.update(school=len(names), calendar=2 * len(names))
    return {level: [ids[name] for of, name, _ in names if of == level] for level in words.LEVELS}


def _tree(n: int) -> str:
    again, tree = divmod(n, len(words.TREES))
    return f"{words.TREES[tree]} {again + 1}" if again else words.TREES[tree]


async def _log(conn: Connection, district_id: int) -> int:
    """Log every preference as turned on in the district's next revision (D28), and return the number of rows."""
    revision = await take_revision(conn, district_id, Source.IMPORT, ACTOR)
    logs = (statement("sample/log_preferences").fill(**log_slots(household)) for household in (False, True))
    return sum([await execute(conn, log, district_id=district_id, revision=revision) for log in logs])
