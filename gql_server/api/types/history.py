"""Types for the district's history of changes."""

import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from gql_server.api.enums import ChangeKind, ContactPointKind, Method, Source
from gql_server.api.fields import column, linked
from gql_server.api.scalars import ReasonCode, Revision
from gql_server.domain.reasons import MAX_REASONS
from gql_server.reads.links import ConnectionLink, RowsLink, SortKey

if TYPE_CHECKING:
    from gql_server.api.types.batch import BatchRun
    from gql_server.api.types.people import Household, Person

CHANGES_OF_PERSON = ConnectionLink(
    "change",
    (SortKey("revision_number", "bigint"), SortKey("place", "bigint")),
    "{child}.subject = 'PERSON' and {child}.bucket = bucket_of({parent}.person_id)"
    " and {child}.subject_id = {parent}.person_id"
    " and {child}.lowest_id <= {parent}.person_id and {child}.highest_id >= {parent}.person_id",
    descending=True,
    row_cost=2,
    scan_cost=10,
)


@strawberry.type(
    description="One preference: a contact point and a method (together a channel), and a contact reason."
)
class PreferenceCell:
    contact_point: ContactPointKind = column("The contact point.")
    method: Method = column("The method.")
    reason: ReasonCode = column("The contact reason.")
    on: bool = column("Whether the preference was turned on (true) or off (false).")


@strawberry.type(description="The changes of one kind that one change set made to one person or household.")
class Change:
    revision: Revision = column("The district's revision that the change set created.")
    at: datetime.datetime = column("When the change was committed.")
    kind: ChangeKind = column("The kind of data that was changed.")
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
        RowsLink("turned_on_cell", order="{child}.bit", max_rows=MAX_REASONS, naturally_bounded=True),
        "The preferences that were turned on. Empty unless `kind` is PREFERENCES.",
    )
    turned_off: list[PreferenceCell] = linked(
        RowsLink("turned_off_cell", order="{child}.bit", max_rows=MAX_REASONS, naturally_bounded=True),
        "The preferences that were turned off. Empty unless `kind` is PREFERENCES.",
    )
