"""The mutation type: a resolver parses, calls one service, maps."""

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

_INPUT = strawberry.argument(description="What to do.")
_WAIT = strawberry.argument(description=WAIT_WORDS)


def _revision(text: str | None) -> int | None:
    return None if text is None else int(text)


@strawberry.type(
    description="What can be changed. Preferences that are committed together are one change set of the district's "
    "history; a batch commits its people chunk by chunk."
)
class Mutation:
    @mutation
    async def batch_set_preferences(
        self, info: RequestInfo, input: Annotated[BatchSetPreferencesInput, _INPUT]
    ) -> BatchSetPreferencesPayload:
        """Set contact preferences for a whole population. For administrators.

        The mode and the scope select people; plug-ins' rules keep some out of some cells, and the run says whom.
        It overwrites what people have chosen for themselves, unless `keepChosen` is set; the run says how often.
        The household phone belongs to a household: setting it sets it for everyone who lives there, whether or not
        the mode and the scope select them. With `dryRun` the run only plans, and tells both before anything is set.
        """
        context = info.context
        work = context.services.batch.submit(context.viewer, input.value(), input.wait_seconds)
        return await BatchSetPreferencesPayload.of(work)

    @mutation
    async def apply_batch(
        self, info: RequestInfo, id: Id, wait_seconds: Annotated[int, _WAIT] = WAIT_SECONDS
    ) -> BatchRunPayload:
        """Apply a plan, exactly as it was shown; what has ceased to fit is left out and counted. For administrators.

        It waits its turn like any run.
        """
        context = info.context
        return await BatchRunPayload.of(context.services.batch.apply(context.viewer, id, wait_seconds))

    @mutation
    async def cancel_batch(self, info: RequestInfo, id: Id) -> BatchRunPayload:
        """Cancel a run. For administrators.

        One that has not begun to set preferences ends at once; one that has stops, and is undone by a run of its own.
        """
        context = info.context
        return await BatchRunPayload.of(context.services.batch.cancel(context.viewer, id))

    @mutation
    async def revert_batch(
        self, info: RequestInfo, id: Id, wait_seconds: Annotated[int, _WAIT] = WAIT_SECONDS
    ) -> BatchRunPayload:
        """Undo what a run did, by a run of its own, which is the answer's `run`. For administrators.

        Cells that still are as the run left them return to what they were, choices among them; cells that were
        changed since stay. A revert is not undone: submit the batch again.
        """
        context = info.context
        return await BatchRunPayload.of(context.services.batch.revert(context.viewer, id, wait_seconds))

    @mutation
    async def set_preferences(
        self, info: RequestInfo, input: Annotated[SetPreferencesInput, _INPUT]
    ) -> SetPreferencesPayload:
        """Set preferences of one person, TEXT too. For administrators."""
        context = info.context
        work = context.services.preferences.set_person(
            context.viewer, input.person_id, [c.value() for c in input.cells], _revision(input.if_revision)
        )
        return await SetPreferencesPayload.of(work)

    @mutation
    async def set_household_preferences(
        self, info: RequestInfo, input: Annotated[SetHouseholdPreferencesInput, _INPUT]
    ) -> SetHouseholdPreferencesPayload:
        """Set household phone preferences of one household, TEXT too. For administrators."""
        context = info.context
        work = context.services.preferences.set_household(
            context.viewer, input.household_id, [c.value() for c in input.cells], _revision(input.if_revision)
        )
        return await SetHouseholdPreferencesPayload.of(work)

    @mutation
    async def save_filter(
        self, info: RequestInfo, input: Annotated[SaveFilterInput, _INPUT]
    ) -> SavedFilterPayload:
        """Save a filter under a name, a new one or another version. For administrators.

        Runs that were asked for before keep the criteria that they were asked with.
        """
        context = info.context
        work = context.services.filters.save(
            context.viewer, name=input.name, kind=input.kind, criteria=input.criteria, filter_id=input.id
        )
        return await SavedFilterPayload.of(work)

    @mutation
    async def delete_filter(self, info: RequestInfo, id: Id) -> DeletedPayload:
        """Delete a saved filter. For administrators. Runs keep the criteria that they were asked with."""
        try:
            await info.context.services.filters.delete(info.context.viewer, id)
        except Rejected as refusal:
            return DeletedPayload(deleted_id=None, user_errors=user_errors(refusal))
        return DeletedPayload(deleted_id=id, user_errors=[])
