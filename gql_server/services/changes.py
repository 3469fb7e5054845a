"""Writes preferences and takes the district's revisions (D28). Chunks of a run: services/batch/apply.

Order of locks: preference rows in key order, then the district's row. Nothing is locked after the district's row.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache

from gql_server.db.database_errors import is_duplicate
from gql_server.db.protocols import Connection, Row
from gql_server.db.statements import fetch, fetchval, statement
from gql_server.domain.changes import Source
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.sql import Sql
from gql_server.errors import Unavailable
from gql_server.hooks import PreferenceChanges
from gql_server.hooks.host import PluginHost


@dataclass(frozen=True, slots=True)
class MaskCount:
    """How many rows of one contact point have the same masks after a write.

    asked: bits that the target turns on or off, or marks as chosen. flipped: bits that changed. overwrote: flipped bits
    that people had chosen before. kept: bits left alone because people chose them. skipped_as_chosen: bits left alone
    because people chose them after the target was made.
    """

    contact_point: ContactPointKind
    asked: int
    flipped: int
    overwrote: int
    kept: int
    skipped_as_chosen: int
    rows: int

    @classmethod
    def from_row(cls, row: Row) -> "MaskCount":
        masks = (row["asked"], row["flipped"], row["overwrote"], row["kept"], row["skipped_as_chosen"])
        return cls(ContactPointKind(row["contact_point"]), *masks, row["rows"])


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of a write. `revision` is None if nothing changed."""

    revision: int | None
    counts: tuple[MaskCount, ...]

    @property
    def preferences(self) -> int:
        """The number of preferences (bits) that changed."""
        return sum(count.flipped.bit_count() * count.rows for count in self.counts)


class ConcurrentInsert(Unavailable):
    """Another transaction inserted a preference row that this one found missing."""


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Who writes, and from which source: the data of the change set (D28)."""

    district_id: int
    source: Source
    actor: str


async def take_revision(conn: Connection, district_id: int, source: Source, actor: str) -> int:
    """Take the district's next revision, insert its change set, and return the revision.

    This locks the district's row, so call it after all other locks of the transaction. The rows of `change` may be
    written before or after.
    """
    return int(
        await fetchval(conn, "district/take_revision", district_id=district_id, source=source, actor=actor)
    )


def table_slots(household: bool) -> dict[str, Sql]:
    """Return the slots {table}, {subject}, {owner} and {kind} of the statements about preferences and their log."""
    owner = "household" if household else "person"
    table = "household_preference" if household else "preference"
    names = {"table": table, "subject": f"{owner}_id", "owner": owner, "kind": f"'{owner.upper()}'"}
    return {slot: Sql(name) for slot, name in names.items()}


@cache
def log_slots(household: bool) -> Mapping[str, Sql]:
    """Return the slots of a statement that writes preferences and logs them: those of its tables, and {log}."""
    slots = table_slots(household)
    return {**slots, "log": statement("log/append").fill(kind=slots["kind"])}


async def write_preferences(
    conn: Connection,
    change_set: ChangeSet,
    target: Sql,
    *,
    household: bool,
    mark_chosen: bool = False,
    today: date | None = None,
) -> WriteResult:
    """Turn the target's bits on and off in one table, log the changes, and take a revision if there are any.

    `target` is a SELECT of subject_id, contact_point, method, on_mask and off_mask, with one row for each channel; it
    may ask for `today`. Call this once in a transaction and lock nothing after it. It is one statement, so the
    transaction may be that statement's own (`Database.autocommit`).

    A changed bit is no longer marked as chosen (D18). With `mark_chosen` all bits of the target are marked (D23).
    Raises ConcurrentInsert: roll the transaction back and try again.
    """
    slots = {**log_slots(household), "target": target}
    with _concurrent_inserts():
        rows = await fetch(
            conn,
            statement("preference/write").fill(**slots),
            district_id=change_set.district_id,
            today=today,
            mark_chosen=mark_chosen,
            source=change_set.source,
            actor=change_set.actor,
        )
    counts = tuple(MaskCount.from_row(row) for row in rows)
    return WriteResult(rows[0]["revision"] if rows else None, counts)


@contextmanager
def _concurrent_inserts() -> Iterator[None]:
    """Raise ConcurrentInsert where a statement of the block fails because a row that it inserts is there already."""
    try:
        yield
    except Exception as error:
        if is_duplicate(error):
            message = "These preferences were set for the first time by another request just now. Try again."
            raise ConcurrentInsert(message) from error
        raise


def notify_preferences_changed(
    host: PluginHost, district_code: str, source: Source, written: WriteResult
) -> None:
    """Notify the plug-ins of a write, after its commit. Returns without waiting for them."""
    if written.revision is None:
        return
    changes = PreferenceChanges(
        district=district_code,
        revision=written.revision,
        source=source,
        preferences=written.preferences,
    )
    host.calls.notify_preferences_changed(changes)
