"""The subscription type: what can be watched. Each event is a read of the graph, by one compiled statement."""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import strawberry

from gql_server.api.context import RequestInfo
from gql_server.api.fields import ADMIN, LINK, Id, id_param
from gql_server.api.types.batch import BatchRun
from gql_server.domain.ids import IdKind
from gql_server.reads.links import AnyLink, Link


def _watched(link: AnyLink) -> Callable[[Callable[..., Any]], Any]:
    """Make a subscription of a generator: whenever it yields, the link is read anew, and that is what is sent."""

    def decorate(function: Callable[..., Any]) -> Any:
        return strawberry.subscription(
            resolver=function, description=inspect.getdoc(function), metadata={LINK: link}
        )

    return decorate


@strawberry.type(description="What can be watched, over WebSockets or server-sent events.")
class Subscription:
    @_watched(
        Link(
            "batch_run",
            "{child}.batch_run_id = :id::bigint",
            params=id_param(IdKind.BATCH_RUN),
            roles=ADMIN,
        )
    )
    async def batch_run(self, info: RequestInfo, id: Id) -> AsyncIterator[BatchRun]:
        """A run, at once and whenever its status or progress has changed, until it has ended. For administrators."""
        context = info.context
        async for state in context.services.batch.watch(context.viewer, str(id)):
            yield state  # type: ignore[misc]
