"""The one way in which preferences are written, and the district's revisions (D28).

Locks: preference rows in key order, then the district's row, last. Nothing is locked after it.
"""

from dataclasses import dataclass

from gql_server.db.protocols import Connection, Row
from gql_server.db.statements import fetch, fetchval, statement
from gql_server.domain.changes import Source
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.sql import Sql
from gql_server.errors import Unavailable
from gql_server.hooks import PreferenceChanges
from gql_server.hooks.host import PluginHost


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows of one contact point went the same way. The masks say which bits were asked for, flipped,
    had been chosen before they flipped, were kept because they are chosen, and stayed because they were chosen since
    the target was made."""

    contact_point: ContactPointKind
    asked: int
    flipped: int
    overwrote: int
    kept: int
    skipped_as_chosen: int
    rows: int

    @classmethod
    def from_row(cls, row: Row) -> "Tally":
        masks = (row["asked"], row["flipped"], row["overwrote"], row["kept"], row["skipped_as_chosen"])
        return cls(ContactPointKind(row["contact_point"]), *masks, row["rows"])


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did. `revision` is None where nothing changed."""

    revision: int | None
    tallies: tuple[Tally, ...]

    @property
    def preferences(self) -> int:
        """The number of preferences (bits) that changed."""
        return sum(tally.flipped.bit_count() * tally.rows for tally in self.tallies)


class Raced(Unavailable):
    """Another transaction added a row that this one found missing."""


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Who writes, and why (D28)."""

    district_id: int
    source: Source
    actor: str
    batch_run_id: int | None = None


async def take_revision(
    conn: Connection, district_id: int, source: Source, actor: str, batch_run_id: int | None = None
) -> int:
    """Take the district's next revision, open its change set and return it.

    Locks the district's row: call it after all other locks of the transaction. The rows of `change` may be
    written before or after.
    """
    return int(
        await fetchval(
            conn,
            "district/take_revision",
            district_id=district_id,
            source=source,
            actor=actor,
            batch_run_id=batch_run_id,
        )
    )


def table_slots(household: bool) -> dict[str, Sql]:
    """Return the slots {table} and {subject} of the statements in sql/preference."""
    if household:
        return {"table": Sql("household_preference"), "subject": Sql("household_id")}
    return {"table": Sql("preference"), "subject": Sql("person_id")}


async def write_preferences(
    conn: Connection,
    change_set: ChangeSet,
    target: Sql,
    *,
    household: bool,
    keep_chosen: bool = False,
    mark_chosen: bool = False,
) -> Written:
    """Turn the target's bits on and off in one table, log what changed, and take a revision if anything did.

    `target` is a SELECT of subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen and mark_as_chosen,
    each channel once. Call it once in a transaction and lock nothing after it. A changed bit ceases to be
    chosen (D18), but one of mark_as_chosen becomes so (D29); a chosen bit of skip_if_chosen stays as it is; with
    `keep_chosen` so do all chosen bits; with `mark_chosen` all bits asked for become chosen (D23).
    Raises Raced: the transaction is to be rolled back and tried again.
    """
    slots = {**table_slots(household), "target": target}
    rows = await fetch(
        conn,
        statement("preference/write").fill(**slots),
        district_id=change_set.district_id,
        keep_chosen=keep_chosen,
        mark_chosen=mark_chosen,
        source=change_set.source,
        actor=change_set.actor,
        batch_run_id=change_set.batch_run_id,
    )
    if any(row["raced"] for row in rows):
        raise Raced("These preferences were set for the first time by another request just now. Try again.")
    tallies = tuple(Tally.from_row(row) for row in rows)
    return Written(rows[0]["revision"] if rows else None, tallies)


def tell_changed(host: PluginHost, district_code: str, source: Source, written: Written) -> None:
    """Tell the plug-ins of a write, after its commit. They hear of it soon; nobody waits for them."""
    if written.revision is None:
        return
    changes = PreferenceChanges(
        district=district_code,
        revision=written.revision,
        source=source,
        preferences=written.preferences,
    )
    host.calls.notify_preferences_changed(changes)
