"""The mutation type. A resolver converts its input, calls one service, and wraps the result in a payload."""

from typing import Annotated

import strawberry

from gql_server.api.context import RequestInfo
from gql_server.api.fields import Id, mutation
from gql_server.api.inputs import (
    WAIT_WORDS,
    BatchSetPreferencesInput,
    SaveFilterInput,
    SetHouseholdPreferencesInput,
    SetPreferencesInput,
)
from gql_server.api.payloads import (
    BatchRunPayload,
    BatchSetPreferencesPayload,
    DeletedPayload,
    SavedFilterPayload,
    SetHouseholdPreferencesPayload,
    SetPreferencesPayload,
    user_errors,
)
from gql_server.errors import Rejected
from gql_server.services.batch.request import WAIT_SECONDS

_INPUT = strawberry.argument(description="The input of the mutation.")
_WAIT = strawberry.argument(description=WAIT_WORDS)


def _revision(text: str | None) -> int | None:
    return None if text is None else int(text)


@strawberry.type(
    description="Changes to a district's data. Preferences that are committed together form one change set of the "
    "district's history; a batch commits its people in chunks, each of which is one change set."
)
class Mutation:
    @mutation
    async def batch_set_preferences(
        self, info: RequestInfo, input: Annotated[BatchSetPreferencesInput, _INPUT]
    ) -> BatchSetPreferencesPayload:
        """Set contact preferences for a whole population, in a batch run. For administrators only.

        The mode and the scope select the people. Rules of plug-ins may exclude some of them from some cells; the run
        lists these exclusions. The run overwrites preferences that people have chosen for themselves, unless
        `keepChosen` is true, and counts them. The preferences of a household phone belong to the household: setting
        them affects every active member, even those whom the mode and the scope do not select. With `dryRun` the run
        only makes a plan, which shows all of this before anything is set.
        """
        context = info.context
        work = context.services.batch.submit(context.viewer, input.to_request(), input.wait_seconds)
        return await BatchSetPreferencesPayload.of(work)

    @mutation
    async def apply_batch(
        self, info: RequestInfo, id: Id, wait_seconds: Annotated[int, _WAIT] = WAIT_SECONDS
    ) -> BatchRunPayload:
        """Apply the plan of a run that was requested with `dryRun`. For administrators only.

        Exactly the planned preferences are set, except those that no longer qualify; `difference` counts them. Like
        any run, it waits until no other run works in the district.
        """
        context = info.context
        return await BatchRunPayload.of(context.services.batch.apply(context.viewer, id, wait_seconds))

    @mutation
    async def cancel_batch(self, info: RequestInfo, id: Id) -> BatchRunPayload:
        """Cancel a run. For administrators only.

        A run that has not set any preferences ends at once. A run that has stops, and a new run undoes it.
        """
        context = info.context
        return await BatchRunPayload.of(context.services.batch.cancel(context.viewer, id))

    @mutation
    async def revert_batch(
        self, info: RequestInfo, id: Id, wait_seconds: Annotated[int, _WAIT] = WAIT_SECONDS
    ) -> BatchRunPayload:
        """Undo a run by a new run, which is the payload's `run`. For administrators only.

        Cells that nobody has changed since return to what they were before the run, and before any other run that is
        reverted by now, including whether the person had chosen them. So the order in which runs are reverted makes
        no difference. Cells that somebody else has changed since stay as they are. A revert cannot be reverted: submit
        the batch again instead.
        """
        context = info.context
        return await BatchRunPayload.of(context.services.batch.revert(context.viewer, id, wait_seconds))

    @mutation
    async def set_preferences(
        self, info: RequestInfo, input: Annotated[SetPreferencesInput, _INPUT]
    ) -> SetPreferencesPayload:
        """Set preferences of one person, by any method, including TEXT. For administrators only."""
        context = info.context
        work = context.services.preferences.set_person(
            context.viewer,
            input.person_id,
            [cell.to_cell() for cell in input.cells],
            _revision(input.if_revision),
        )
        return await SetPreferencesPayload.of(work)

    @mutation
    async def set_household_preferences(
        self, info: RequestInfo, input: Annotated[SetHouseholdPreferencesInput, _INPUT]
    ) -> SetHouseholdPreferencesPayload:
        """Set the preferences of one household's phone, by VOICE or TEXT. For administrators only.

        They apply to every active member of the household.
        """
        context = info.context
        work = context.services.preferences.set_household(
            context.viewer,
            input.household_id,
            [cell.to_cell() for cell in input.cells],
            _revision(input.if_revision),
        )
        return await SetHouseholdPreferencesPayload.of(work)

    @mutation
    async def save_filter(
        self, info: RequestInfo, input: Annotated[SaveFilterInput, _INPUT]
    ) -> SavedFilterPayload:
        """Create a saved filter, or change one. For administrators only. A district has at most 200.

        Existing runs keep the criteria that they were requested with.
        """
        context = info.context
        work = context.services.filters.save(
            context.viewer, name=input.name, kind=input.kind, criteria=input.criteria, filter_id=input.id
        )
        return await SavedFilterPayload.of(work)

    @mutation
    async def delete_filter(self, info: RequestInfo, id: Id) -> DeletedPayload:
        """Delete a saved filter. For administrators only.

        Existing runs keep the criteria that they were requested with.
        """
        try:
            await info.context.services.filters.delete(info.context.viewer, id)
        except Rejected as rejected:
            return DeletedPayload(deleted_id=None, user_errors=user_errors(rejected))
        return DeletedPayload(deleted_id=id, user_errors=[])
