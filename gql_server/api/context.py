"""What resolvers find in `info.context`."""

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

from strawberry import Info

from gql_server.domain.viewer import Viewer
from gql_server.reads.executor import CompiledOperation, ReadExecutor
from gql_server.reads.links import ReadContext
from gql_server.services.batch.service import BatchService
from gql_server.services.filters import FilterService
from gql_server.services.preferences import PreferenceService


@dataclass(frozen=True, slots=True)
class Services:
    """The services that mutations and subscriptions call. A server has one of each."""

    batch: BatchService
    preferences: PreferenceService
    filters: FilterService


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The context of one mutation or subscription.

    compiled: the compiled reads of its payloads or events.
    event_slots: a semaphore shared by all subscriptions of the district; one event is read while it is held.
    """

    viewer: Viewer
    services: Services
    reads: ReadExecutor
    read_context: ReadContext
    compiled: CompiledOperation
    event_slots: asyncio.Semaphore


RequestInfo: TypeAlias = Info[RequestContext, None]
