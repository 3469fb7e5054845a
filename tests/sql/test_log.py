"""The log in blocks: what its readers say is what a naive log says, and they read no more than they need (D28)."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.db.protocols import Connection
from gql_server.db.statements import bind, fetchval, statement
from gql_server.domain.changes import ChangeKind, SubjectKind
from gql_server.domain.channels import PERSON_CHANNELS, Channel, ContactPointKind, Method
from gql_server.domain.sql import Sql
from gql_server.services import log
from gql_server.services.changes import table_slots
from tests.support.builder import DistrictBuilder
from tests.support.naive_log import IDS, Did, NaiveLog, Subject, folded, last_setters, replay, write

pytestmark = pytest.mark.slow

CHANGE_SETS = 45
OTHERS = 15
EVERY_BIT = (1 << 62) - 1


async def shown(conn: Connection, district_id: int) -> list[Did]:
    """Return the log as the view subject_change shows it."""
    rows = await conn.fetch("select * from subject_change where district_id = $1", district_id)
    return [
        Did(
            row["revision"], Subject(SubjectKind(row["subject"]), row["subject_id"]), ChangeKind(row["kind"]),
            Channel(ContactPointKind(row["contact_point"]), Method(row["method"])) if row["method"] else None,
            (row["turned_on"], row["turned_off"], row["chosen"], row["unchosen"]),
        )
        for row in rows
    ]  # fmt: skip


def unordered(rows: list[Did]) -> list[Did]:
    return sorted(rows, key=repr)


@pytest.fixture(params=range(3))
async def naive(request: pytest.FixtureRequest, db: Pool, district: DistrictBuilder) -> NaiveLog:
    """A log in the district, and another one of the same people's numbers in the next district."""
    other = await district.conn.fetchval(
        "insert into district (code, name) values ('birch', 'Birch') returning district_id"
    )
    made = NaiveLog(Random(request.param))
    for district_id, naive, sets in ((other, NaiveLog(Random(99)), OTHERS), (district.id, made, CHANGE_SETS)):
        while naive.revision < sets:
            if rows := naive.step():
                await write(district.conn, district_id, rows)
            else:
                naive.revision -= 1  # a change set that changes nothing is none
    return made


async def test_the_log_says_what_was_written(naive: NaiveLog, district: DistrictBuilder) -> None:
    """Uniform masks and mixed ones, few people and many are told as they were, and replay to the state (D28)."""
    rows = await shown(district.conn, district.id)
    assert unordered(rows) == unordered(naive.rows)
    assert replay(rows) == {key: masks for key, masks in naive.state.items() if any(masks)}


async def test_a_block_says_what_it_holds(naive: NaiveLog, district: DistrictBuilder) -> None:
    """Ids stand in order and in their bucket, and what lets a reader skip a row is exact (D28)."""
    wrong = await district.conn.fetch(
        "select * from change c where subject_ids <> array(select unnest(subject_ids) order by 1)"
        " or lowest_id <> subject_ids[1] or highest_id <> subject_ids[cardinality(subject_ids)]"
        " or exists (select from unnest(subject_ids) s where bucket_of(s) <> bucket)"
        " or reasons <> coalesce((select bit_or(m) from unnest(turned_on || turned_off || chosen || unchosen) m), 0)"
    )
    assert wrong == []


async def setters(conn: Connection, district_id: int, subject: Subject) -> dict[tuple[Channel, int], int]:
    """Return what the product says, in the form of the naive `last_setters`."""
    sought = dict.fromkeys(
        PERSON_CHANNELS if subject.kind is SubjectKind.PERSON else [Channel(ContactPointKind.HOUSEHOLD_PHONE, m)
        for m in (Method.VOICE, Method.TEXT)], EVERY_BIT)  # fmt: skip
    household = subject.kind is SubjectKind.HOUSEHOLD
    answer = await log.last_set(conn, district_id, subject.number, sought, household=household)
    return {
        (each.channel, bit): each.origin.revision
        for each in answer
        for bit in range(62)
        if each.reasons >> bit & 1
    }


def subjects() -> list[Subject]:
    return [Subject(kind, number) for kind in (SubjectKind.PERSON, SubjectKind.HOUSEHOLD) for number in IDS]


async def test_who_set_a_preference_last(naive: NaiveLog, district: DistrictBuilder) -> None:
    """For every person and household, all channels and reasons at once; what was never set is in no answer (D28)."""
    for subject in subjects():
        assert await setters(district.conn, district.id, subject) == last_setters(naive.rows, subject)


async def test_what_is_not_sought_is_not_answered(naive: NaiveLog, district: DistrictBuilder) -> None:
    """Only the bits of the channels that are asked for are answered."""
    for channel in PERSON_CHANNELS:
        answer = await log.last_set(district.conn, district.id, 1, {channel: 1})
        expected = last_setters(naive.rows, Subject(SubjectKind.PERSON, 1)).get((channel, 0))
        assert [(a.channel, a.reasons, a.origin.revision) for a in answer] == (
            [(channel, 1, expected)] if expected else []
        )


def nodes(rows: list[Did]) -> list[tuple[log.Place, set[ChangeKind], bool]]:
    """Return the feed that rows make: by revision, kind of subject and number."""
    order = list(SubjectKind)
    keys = sorted({(row.revision, order.index(row.subject.kind), row.subject.number) for row in rows})
    found = []
    for n, (revision, kind, number) in enumerate(keys):
        subject = Subject(order[kind], number)
        kinds = {row.kind for row in rows if (row.revision, row.subject) == (revision, subject)}
        last = n + 1 == len(keys) or keys[n + 1][0] != revision
        found.append((log.Place(revision, *subject), kinds, last))
    return found


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_the_feed_in_pages_is_the_whole_feed(
    naive: NaiveLog, district: DistrictBuilder, size: int
) -> None:
    """Whatever the size of the pages, each node is given once, in order, and says whether its revision ends (D28)."""
    feed: list[log.Node] = []
    while page := await log.read_page(
        district.conn, district.id, feed[-1].place if feed else log.Place(), size
    ):
        assert len(page) <= size
        feed += page
    assert [(node.place, set(node.kinds), node.last_of_revision) for node in feed] == nodes(naive.rows)
    assert all(node.origin.revision == node.place.revision for node in feed)


@pytest.mark.parametrize("part", [0.3, 0.7, 1.0, 9.0])
async def test_folding_keeps_the_state_and_the_last_setters(
    naive: NaiveLog, db: Pool, district: DistrictBuilder, part: float
) -> None:
    """Of what is folded the last change of each bit stays, and of each kind; above the mark nothing changes. It replays
    to the same preferences, the last setters are the same, and the change sets are those that are named (D28)."""
    mark = min(int(CHANGE_SETS * part), CHANGE_SETS)
    assert await log.fold(db, district.id, int(CHANGE_SETS * part)) == mark + 1
    rows = await shown(district.conn, district.id)
    assert unordered(rows) == unordered(folded(naive.rows, mark))
    assert replay(rows) == replay(naive.rows)
    for subject in subjects():
        assert await setters(district.conn, district.id, subject) == last_setters(naive.rows, subject)
    kept = await district.conn.fetch("select revision from change_set where district_id = $1", district.id)
    assert {row["revision"] for row in kept} == {row.revision for row in rows}
    assert await district.conn.fetchval(
        "select log_begins from district where district_id = $1", district.id
    ) == (mark + 1)


async def test_folding_step_by_step_is_folding_at_once(
    naive: NaiveLog, db: Pool, district: DistrictBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is folded again and again, a few ids at a time, and a mark below an earlier one, lead to the same rows
    (D28)."""
    monkeypatch.setattr(log, "_IDS", 5)
    for mark in (10, 25, 5, 25, 40):
        await log.fold(db, district.id, mark)
    assert unordered(await shown(district.conn, district.id)) == unordered(folded(naive.rows, 40))


async def test_the_other_district_is_not_folded(naive: NaiveLog, db: Pool, district: DistrictBuilder) -> None:
    """Folding one district's log leaves another's whole, though the numbers of its people are the same."""
    others = "select c.* from subject_change c where c.district_id <> $1"
    before = await district.conn.fetch(others, district.id)
    await log.fold(db, district.id, CHANGE_SETS)
    assert await district.conn.fetch(others, district.id) == before


async def test_changed_since_is_exact_before_and_after_folding(
    naive: NaiveLog, db: Pool, district: DistrictBuilder
) -> None:
    """Whether somebody was changed after a revision is known for every revision, of what is folded too (D28)."""
    for fold in (False, True):
        if fold:
            await log.fold(db, district.id, 40)
        for subject in subjects():
            query = statement("preference/changed_since").fill(
                kind=table_slots(subject.kind is SubjectKind.HOUSEHOLD)["kind"]
            )
            newest = max((row.revision for row in naive.rows if row.subject == subject), default=0)
            for since in range(0, CHANGE_SETS, 7):
                args = {"subject_id": subject.number, "since": since, "mine": None}
                assert await fetchval(district.conn, query, district_id=district.id, **args) is (
                    newest > since
                )


# ── what is read ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def full(district: DistrictBuilder) -> DistrictBuilder:
    """A log of 600 revisions of 1,000 people each in four buckets, and 2,000 single writes."""
    for text in (
        "insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,"
        " turned_on, reasons, lowest_id, highest_id)"
        " select $1, n, 'PERSON', b, 'PREFERENCES', 'EMAIL', 'EMAIL', array_agg(s order by s), '{1}', 1, min(s), max(s)"
        " from generate_series(1, 600) n, generate_series(0, 3) b, generate_series(b * 960, b * 960 + 255) s"
        " group by n, b",
        "insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,"
        " turned_on, reasons, lowest_id, highest_id)"
        " select $1, 600 + n, 'PERSON', 0, 'PREFERENCES', 'EMAIL', 'EMAIL', array[n % 250], '{2}', 2, n % 250, n % 250"
        " from generate_series(1, 2000) n",
        "insert into change_set (district_id, revision, source, actor)"
        " select $1, n, 'ADMIN', 'ada' from generate_series(1, 2600) n",
    ):
        await district.conn.execute(text, district.id)
    await district.conn.execute("analyze change, change_set")
    return district


def plan_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from plan_nodes(child)


async def explained(district: DistrictBuilder, query: Sql, **args: object) -> list[dict[str, Any]]:
    """Return the nodes of the plan of a statement that was executed."""
    text, values = bind(query, district_id=district.id, **args)
    answer = await district.conn.fetchval(f"explain (analyze, format json) {text}", *values)
    return list(plan_nodes(json.loads(answer)[0]["Plan"]))


def read_of_log(found: list[dict[str, Any]]) -> int:
    """Return how many rows of the log were fetched, having seen that they were found by an index."""
    scans = [node for node in found if node.get("Relation Name") == "change" and "Scan" in node["Node Type"]]
    assert scans
    assert "Seq Scan" not in {node["Node Type"] for node in scans}
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans
    )


async def test_a_page_reads_little_more_than_it_gives(full: DistrictBuilder) -> None:
    """A page in the middle of the feed is read along the index, and ends when it is full (D28)."""
    place = {"after_revision": 300, "after_subject": "PERSON", "after_id": 2100}
    found = await explained(full, statement("log/page").fill(page_size=Sql("100")), **place)
    assert read_of_log(found) <= 10


async def test_the_last_setter_is_found_from_the_newest(full: DistrictBuilder) -> None:
    """A bit that was set lately is found in the first rows of the bucket, and single writes of others are skipped in
    the index (D28)."""
    query = statement("log/last_set").fill(kind=Sql("'PERSON'"))
    sought = [0] * 18
    sought[14] = 1
    found = await explained(full, query, subject_id=255, sought=sought)
    assert read_of_log(found) <= 5


async def test_whether_somebody_was_changed_skips_the_others(full: DistrictBuilder) -> None:
    """The single writes of everybody else in the bucket are skipped in the index (D28)."""
    query = statement("preference/changed_since").fill(kind=Sql("'PERSON'"))
    assert read_of_log(await explained(full, query, subject_id=255, since=590, mine=None)) <= 10


async def test_folding_looks_at_one_bucket(full: DistrictBuilder) -> None:
    """The rows of a bucket are found by the index, and no others are read (D28)."""
    found = await explained(full, statement("log/fold/bucket"), subject="PERSON", bucket=3, mark=600)
    assert read_of_log(found) == 600
