"""What a request's resolvers find in `info.context`."""

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

from strawberry import Info

from gql_server.domain.viewer import Viewer
from gql_server.reads.links import ReadContext
from gql_server.reads.reader import Plan, Reader
from gql_server.services.batch.service import BatchService
from gql_server.services.filters import FilterService
from gql_server.services.preferences import PreferenceService


@dataclass(frozen=True, slots=True)
class Services:
    """What the mutations call. One for the server's life."""

    batch: BatchService
    preferences: PreferenceService
    filters: FilterService


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One mutation or subscription: who asks, what answers, and what was planned of the answer.

    events: held while an event is read; it is that of the viewer's district.
    """

    viewer: Viewer
    services: Services
    reader: Reader
    read: ReadContext
    plan: Plan
    events: asyncio.Semaphore


RequestInfo: TypeAlias = Info[RequestContext, None]
