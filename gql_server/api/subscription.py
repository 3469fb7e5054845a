"""The subscription type. Each event is read by one compiled statement."""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import strawberry

from gql_server.api.context import RequestInfo
from gql_server.api.fields import ADMIN, LINK, Id, id_param
from gql_server.api.types.batch import BatchRun
from gql_server.domain.ids import IdKind
from gql_server.reads.links import Link, RowsLink


def _subscription(link: Link) -> Callable[[Callable[..., Any]], Any]:
    """Declare a subscription. Whenever the decorated generator yields, the link is read and sent as an event."""

    def decorate(function: Callable[..., Any]) -> Any:
        return strawberry.subscription(
            resolver=function, description=inspect.getdoc(function), metadata={LINK: link}
        )

    return decorate


@strawberry.type(description="Subscriptions, over a WebSocket or server-sent events.")
class Subscription:
    @_subscription(
        RowsLink(
            "batch_run",
            "{child}.batch_run_id = :id::bigint",
            params=id_param(IdKind.BATCH_RUN),
            roles=ADMIN,
        )
    )
    async def batch_run(self, info: RequestInfo, id: Id) -> AsyncIterator[BatchRun]:
        """A batch run: its current state at once, and again whenever its status or progress changes.

        The subscription completes when the run has ended or is PLANNED. For administrators only.
        """
        context = info.context
        async for state in context.services.batch.watch(context.viewer, str(id)):
            yield state  # type: ignore[misc]
