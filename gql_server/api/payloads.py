"""Payloads of mutations: what was changed, read by a link, and `userErrors`."""

from collections.abc import Awaitable
from typing import Any, Self

import strawberry

from gql_server.api.fields import LINK, REF, column
from gql_server.api.types.batch import BatchRun, SavedFilter
from gql_server.api.types.common import UserError
from gql_server.api.types.people import Household, Person
from gql_server.errors import Rejected
from gql_server.reads.links import Args, ReadContext, RowsLink

USER_ERRORS = "Errors in the input that the caller can correct. Empty if the mutation succeeded."


def _ref(args: Args, context: ReadContext) -> dict[str, object]:
    return {REF: args[REF]}


def payload_object(table: str, description: str) -> Any:
    """Declare the field of a payload whose value is the row with the internal id `ref`; null if that is None."""
    link = RowsLink(table, f"{{child}}.{table}_id = :{REF}::bigint", params=_ref)
    return strawberry.field(description=description, metadata={LINK: link}, default=None)


class Payload:
    """The base of payloads with one object. `ref` is the internal id of the object; None if there is none."""

    ref: strawberry.Private[int | None]
    user_errors: list[UserError]

    @classmethod
    async def of(cls, work: Awaitable[int]) -> Self:
        """Await the internal id of what a service changed, and return the payload with it, or with the errors."""
        try:
            ref = await work
        except Rejected as rejected:
            return cls(ref=None, user_errors=user_errors(rejected))  # type: ignore[call-arg]
        return cls(ref=ref, user_errors=[])  # type: ignore[call-arg]


def user_errors(rejected: Rejected) -> list[UserError]:
    return [
        UserError(code=error.code, message=error.message, path=list(error.path) if error.path else None)
        for error in rejected.errors
    ]


@strawberry.type(description="The result of `batchSetPreferences`.")
class BatchSetPreferencesPayload(Payload):
    ref: strawberry.Private[int | None]
    run: BatchRun | None = payload_object(
        "batch_run",
        "The run, which is an earlier one if the idempotency key was used before; null if the input was rejected.",
    )
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="The result of `applyBatch`, `cancelBatch` and `revertBatch`.")
class BatchRunPayload(Payload):
    ref: strawberry.Private[int | None]
    run: BatchRun | None = payload_object(
        "batch_run",
        "The run, or for a revert the new run that undoes it; null if the input was rejected.",
    )
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="The result of `setPreferences`.")
class SetPreferencesPayload(Payload):
    ref: strawberry.Private[int | None]
    person: Person | None = payload_object(
        "person", "The person after the change; null if the input was rejected."
    )
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="The result of `setHouseholdPreferences`.")
class SetHouseholdPreferencesPayload(Payload):
    ref: strawberry.Private[int | None]
    household: Household | None = payload_object(
        "household", "The household after the change; null if the input was rejected."
    )
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="The result of `saveFilter`.")
class SavedFilterPayload(Payload):
    ref: strawberry.Private[int | None]
    filter: SavedFilter | None = payload_object(
        "saved_filter", "The saved filter; null if the input was rejected."
    )
    user_errors: list[UserError] = column(USER_ERRORS)


@strawberry.type(description="The result of `deleteFilter`.")
class DeletedPayload:
    deleted_id: strawberry.ID | None = column("The id of the deleted object; null if the input was rejected.")
    user_errors: list[UserError] = column(USER_ERRORS)
