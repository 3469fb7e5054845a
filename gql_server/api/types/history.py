"""The district's history of changes."""

import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from gql_server.api.enums import ChangeKind, ContactPointKind, Method, Source
from gql_server.api.fields import column, joined
from gql_server.api.scalars import ReasonCode, Revision
from gql_server.domain.reasons import MAX_REASONS
from gql_server.reads.links import ConnectionLink, Key, Link

if TYPE_CHECKING:
    from gql_server.api.types.batch import BatchRun
    from gql_server.api.types.people import Household, Person

CHANGES_OF_PERSON = ConnectionLink(
    "change",
    (Key("revision_number", "bigint"), Key("change_id", "bigint")),
    "{child}.person_id = {parent}.person_id",
    descending=True,
    each=2,
    scan=10,
)


@strawberry.type(description="One preference: a channel and a reason.")
class PreferenceCell:
    contact_point: ContactPointKind = column("The contact point.")
    method: Method = column("The method.")
    reason: ReasonCode = column("The reason.")
    on: bool = column("Whether it is on.")


@strawberry.type(description="What one change set changed of one person or household.")
class Change:
    revision: Revision = column("The district's revision that it made.")
    at: datetime.datetime = column("When.")
    kind: ChangeKind = column("What was changed.")
    source: Source = column("Through which door.")
    actor: str = column("Who did it: the role, and the person's own id where the token named one.")
    run: Annotated["BatchRun", strawberry.lazy("gql_server.api.types.batch")] | None = joined(
        Link("batch_run", "{child}.batch_run_id = {parent}.batch_run_id"),
        "The batch run it was part of, for administrators.",
    )
    person: Annotated["Person", strawberry.lazy("gql_server.api.types.people")] | None = joined(
        Link("person", "{child}.person_id = {parent}.person_id"), "The person concerned."
    )
    household: Annotated["Household", strawberry.lazy("gql_server.api.types.people")] | None = joined(
        Link("household", "{child}.household_id = {parent}.household_id"), "The household concerned."
    )
    turned_on: list[PreferenceCell] = joined(
        Link("turned_on_cell", order="{child}.bit", most=MAX_REASONS, fixed=True),
        "For PREFERENCES: the cells turned on.",
    )
    turned_off: list[PreferenceCell] = joined(
        Link("turned_off_cell", order="{child}.bit", most=MAX_REASONS, fixed=True),
        "For PREFERENCES: the cells turned off.",
    )
