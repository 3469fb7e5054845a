"""Types for the district's history of changes."""

import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from gql_server.api.enums import ChangeKind, ContactPointKind, Method, Source
from gql_server.api.fields import column, linked
from gql_server.api.scalars import ReasonCode, Revision
from gql_server.db.statements import body
from gql_server.domain.channels import PERSON_CHANNELS
from gql_server.domain.reasons import MAX_REASONS
from gql_server.reads.cursors import page_size, parse_cursor
from gql_server.reads.links import Args, ConnectionLink, ReadContext, RowsLink, SortKey

if TYPE_CHECKING:
    from gql_server.api.types.batch import BatchRun
    from gql_server.api.types.people import Household, Person

_KEYS = (
    SortKey("revision_number", "bigint"),
    SortKey("household", "boolean"),
    SortKey("subject_id", "bigint"),
)
_DEFAULT_FIRST = 50
_BUCKET_COST = 100
"""What it costs to find the changes of one person or household in their bucket of the log: as much as to pass by some
500 rows that name others, which takes about as long as the rest."""


def _newest(args: Args, context: ReadContext) -> dict[str, object]:
    """Return how many changes of each person and household can be on the page, and up to which revision.

    There are two more than the page has rows: one that tells whether there is a next page, and one of the revision of
    `after`, which may be on the page before.
    """
    after = args.get("after")
    return {
        "time_zone": context.viewer.district.time_zone,
        "nodes": page_size(args.get("first"), _DEFAULT_FIRST, context.max_first) + 2,
        "up_to": None if after is None else parse_cursor(str(after), _KEYS)[0],
    }


def _history(subjects: str, scan_cost: int) -> ConnectionLink:
    """Return the link to the changes of whomever a file of sql/graph names."""
    return ConnectionLink(
        "change",
        _KEYS,
        descending=True,
        params=_newest,
        tables={"subjects": body(f"graph/{subjects}")},
        default_first=_DEFAULT_FIRST,
        row_cost=2,
        scan_cost=scan_cost,
        scan_cost_portal=scan_cost,
    )


HISTORY_OF_PERSON = _history("history_of_person", 2 * _BUCKET_COST)  # theirs, and their household's
HISTORY_OF_HOUSEHOLD = _history("history_of_household", _BUCKET_COST)


def _cells(table: str) -> RowsLink:
    """Return the link to the cells that a change turned on, or off."""
    return RowsLink(
        table,
        order="{child}.contact_point, {child}.method, {child}.bit",
        max_rows=MAX_REASONS * len(PERSON_CHANNELS),
        naturally_bounded=True,
    )


@strawberry.type(
    description="One preference: a contact point and a method (together a channel), and a contact reason."
)
class PreferenceCell:
    contact_point: ContactPointKind = column("The contact point.")
    method: Method = column("The method.")
    reason: ReasonCode = column("The contact reason.")
    on: bool = column("Whether the preference was turned on (true) or off (false).")


@strawberry.type(description="What one change set did to one person or household.")
class Change:
    revision: Revision = column("The district's revision that the change set created.")
    at: datetime.datetime = column("When the change was committed.")
    kinds: list[ChangeKind] = column(
        "The kinds of data that were changed, each once. Portal users do not see changes of relationships, nor of the "
        "members of their household."
    )
    source: Source = column("The way by which the change was made.")
    actor: str = column(
        "Who made the change: the role of the token, and the person's id in the district's own system if the token "
        "names a person, which portal users do not see."
    )
    run: Annotated["BatchRun", strawberry.lazy("gql_server.api.types.batch")] | None = linked(
        RowsLink("batch_run", "{child}.batch_run_id = {parent}.batch_run_id"),
        "The batch run that made the change; null for other changes, and for everyone but administrators.",
    )
    person: Annotated["Person", strawberry.lazy("gql_server.api.types.people")] | None = linked(
        RowsLink("person", "{child}.person_id = {parent}.person_id"),
        "The person who was changed; null for a household.",
    )
    household: Annotated["Household", strawberry.lazy("gql_server.api.types.people")] | None = linked(
        RowsLink("household", "{child}.household_id = {parent}.household_id"),
        "The household that was changed; null for a person.",
    )
    turned_on: list[PreferenceCell] = linked(
        _cells("turned_on_cell"),
        "The preferences that were turned on, on all channels. Empty unless PREFERENCES is one of `kinds`, and where "
        "only choices were given back.",
    )
    turned_off: list[PreferenceCell] = linked(
        _cells("turned_off_cell"),
        "The preferences that were turned off, on all channels. Empty unless PREFERENCES is one of `kinds`, and where "
        "only choices were given back.",
    )
