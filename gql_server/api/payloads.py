"""What mutations answer: `userErrors`, and what was changed as a read of the graph."""

from collections.abc import Awaitable
from typing import Any, Self

import strawberry

from gql_server.api.fields import LINK, column
from gql_server.api.types.batch import BatchRun, SavedFilter
from gql_server.api.types.common import UserError
from gql_server.api.types.people import Household, Person
from gql_server.errors import Rejected
from gql_server.reads.links import Args, Link, ReadContext

USER_ERRORS = "What the caller can put right; empty where the mutation was carried out."
REF = "ref"
"""The number of what a payload shows: an attribute of the payload, and the argument of its link."""


def _ref(args: Args, context: ReadContext) -> dict[str, object]:
    return {REF: args[REF]}


def shown(table: str, description: str) -> Any:
    """A field of a payload that shows the row of a graph file that the payload's `ref` names; null without it."""
    link = Link(table, f"{{child}}.{table}_id = :{REF}::bigint", params=_ref)
    return strawberry.field(description=description, metadata={LINK: link}, default=None)


class Payload:
    """Base of the payloads whose one object is found by `ref`."""

    ref: strawberry.Private[int | None]
    user_errors: list[UserError]

    @classmethod
    async def of(cls, work: Awaitable[int]) -> Self:
        """Return the payload for what a service answers: the number of what it changed, or what it rejected."""
        try:
            ref = await work
        except Rejected as refusal:
            return cls(ref=None, user_errors=user_errors(refusal))  # type: ignore[call-arg]
        return cls(ref=ref, user_errors=[])  # type: ignore[call-arg]


def user_errors(refusal: Rejected) -> list[UserError]:
    return [
        UserError(code=error.code, message=error.message, path=list(error.path) if error.path else None)
        for error in refusal.errors
    ]


@strawberry.type(description="The run that a mutation started.")
class BatchSetPreferencesPayload(Payload):
    ref: strawberry.Private[int | None]
    run: BatchRun | None = shown("batch_run", "The run; null where the input was refused.")
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="The run that a mutation applied, cancelled, or started to undo another.")
class BatchRunPayload(Payload):
    ref: strawberry.Private[int | None]
    run: BatchRun | None = shown("batch_run", "The run; null where the input was refused.")
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="The person whose preferences were set.")
class SetPreferencesPayload(Payload):
    ref: strawberry.Private[int | None]
    person: Person | None = shown("person", "The person as they are now; null where the input was refused.")
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="The household whose preferences were set.")
class SetHouseholdPreferencesPayload(Payload):
    ref: strawberry.Private[int | None]
    household: Household | None = shown(
        "household", "The household as it is now; null where the input was refused."
    )
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="The filter that was saved.")
class SavedFilterPayload(Payload):
    ref: strawberry.Private[int | None]
    filter: SavedFilter | None = shown("saved_filter", "The filter; null where the input was refused.")
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="What was deleted.")
class DeletedPayload:
    deleted_id: strawberry.ID | None = column("The id that is gone; null where the input was refused.")
    user_errors: list[UserError] = column(USER_ERRORS)
