"""Reads the log of a district, and folds what is old of it into a baseline (D28).

The log holds, by revision, what each change set did to people, households, schools and reasons. `sql/README.md`
describes its form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gql_server.db.protocols import Connection, Database, Row
from gql_server.db.statements import execute, fetch, fetchval, statement
from gql_server.domain.changes import ChangeKind, Source, SubjectKind
from gql_server.domain.channels import Channel, ContactPointKind, Method
from gql_server.domain.sql import Sql
from gql_server.errors import Busy
from gql_server.services.changes import table_slots

_IDS = 100_000
"""How many ids of a bucket one transaction folds, more or less: it takes a second or two."""

_CHANGE_SETS = 10_000
"""How many revisions one transaction looks at for change sets to remove."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a change set: when, from which source, by whom and by which run (its number) it was made."""

    revision: int
    at: datetime
    source: Source
    actor: str
    batch_run_id: int | None

    @classmethod
    def from_row(cls, row: Row) -> "Origin":
        return cls(row["revision"], row["at"], Source(row["source"]), row["actor"], row["batch_run_id"])


@dataclass(frozen=True, slots=True)
class LastSet:
    """The change set that set these preferences of one channel last. `reasons`: their bits."""

    origin: Origin
    channel: Channel
    reasons: int


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the feed: a subject of a revision. The feed begins after the place (0, PERSON, 0)."""

    revision: int = 0
    subject: SubjectKind = SubjectKind.PERSON
    subject_id: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """What one change set did to one subject. `last_of_revision`: nothing of the same revision comes after it."""

    place: Place
    kinds: Sequence[ChangeKind]
    origin: Origin
    last_of_revision: bool


async def last_set(
    conn: Connection,
    district_id: int,
    subject_id: int,
    sought: Mapping[Channel, int],
    *,
    household: bool = False,
) -> list[LastSet]:
    """Return who set the preferences of one person or household last.

    sought: the bits of each channel that are asked for. A bit that was never set is in no answer; to look for it costs
    most, because the log is read to its beginning.
    """
    masks = [0] * (len(ContactPointKind) * len(Method))
    for channel, mask in sought.items():
        masks[_channel_no(channel) - 1] = mask
    query = statement("log/last_set").fill(kind=table_slots(household)["kind"])
    rows = await fetch(conn, query, district_id=district_id, subject_id=subject_id, sought=masks)
    return [
        LastSet(
            Origin.from_row(row),
            Channel(ContactPointKind(row["contact_point"]), Method(row["method"])),
            row["reasons"],
        )
        for row in rows
    ]


def _channel_no(channel: Channel) -> int:
    """Return what the SQL function channel_no does: the place, from 1, of a channel among the masks."""
    kinds, methods = list(ContactPointKind), list(Method)
    return 3 * kinds.index(channel.contact_point) + methods.index(channel.method) + 1


async def read_page(conn: Connection, district_id: int, after: Place, size: int) -> list[Node]:
    """Return the next `size` nodes of the feed, or as many as there are.

    Revisions are in the order of commits and without gaps, so whoever goes on after the last node misses nothing. Below
    the revision at which the log is whole (`log_begins`) the feed is not complete.
    """
    query = statement("log/page").fill(page_size=Sql(str(size)))
    rows = await fetch(
        conn,
        query,
        district_id=district_id,
        after_revision=after.revision,
        after_subject=after.subject,
        after_id=after.subject_id,
    )
    return [
        Node(
            Place(row["revision"], SubjectKind(row["subject"]), row["subject_id"]),
            [ChangeKind(kind) for kind in row["kinds"]],
            Origin.from_row(row),
            row["last_of_revision"],
        )
        for row in rows
    ]


async def fold(db: Database, district_id: int, up_to: int) -> int:
    """Fold the log up to a revision into a baseline, and return the revision from which on the log is whole.

    Replaying the log still gives today's preferences, and the last setter of each is still known. Runs that did
    something up to there cannot be reverted any more. What an unfinished run did, and what came after it, is not
    folded. Each bucket is folded in short transactions, which no writer waits for. A fold that was killed is finished
    by the next one. Raises Busy where a run is being reverted in the same moment.
    """
    async with db.transaction(district_id) as conn:
        await execute(conn, "log/fold/lock", district_id=district_id)
        mark = await fetchval(conn, "log/fold/bound", district_id=district_id, up_to=up_to)
        await execute(conn, "log/fold/close_runs", district_id=district_id, mark=mark)
        begins = await fetchval(conn, "log/fold/begin", district_id=district_id, mark=mark)
        if begins is None:
            raise Busy("A batch run is being reverted. Nothing was folded; try again when it has ended.")
    for subject in SubjectKind:
        await _fold_buckets(db, district_id, subject, begins - 1)
    await _remove_change_sets(db, district_id, begins - 1)
    return int(begins)


async def _fold_buckets(db: Database, district_id: int, subject: SubjectKind, mark: int) -> None:
    """Fold the buckets of a kind of subjects, one after another."""
    key = {"district_id": district_id, "subject": subject}
    bucket = 0
    while True:
        async with db.acquire(district_id) as conn:
            found = await fetchval(conn, "log/fold/next_bucket", **key, bucket=bucket)
            if found is None:
                return
        await _fold_bucket(db, district_id, subject, found, mark)
        bucket = found + 1


async def _fold_bucket(db: Database, district_id: int, subject: SubjectKind, bucket: int, mark: int) -> None:
    """Fold one bucket from its oldest changes on, in transactions that take about as many ids each."""
    key = {"district_id": district_id, "subject": subject, "bucket": bucket}
    done = 0
    while done < mark:
        async with db.transaction(district_id) as conn:
            await execute(conn, "log/fold/lock", district_id=district_id)
            done = await fetchval(conn, "log/fold/next_mark", **key, after=done, mark=mark, most=_IDS)
            await execute(conn, "log/fold/bucket", **key, mark=done)


async def _remove_change_sets(db: Database, district_id: int, mark: int) -> None:
    """Remove the change sets up to the mark that no row names any more, some thousand in a transaction."""
    for after in range(0, mark, _CHANGE_SETS):
        up_to = min(mark, after + _CHANGE_SETS)
        async with db.transaction(district_id) as conn:
            await execute(conn, "log/fold/lock", district_id=district_id)
            await execute(
                conn, "log/fold/remove_change_sets", district_id=district_id, after=after, up_to=up_to
            )
