"""A small GraphQL client over HTTP, for what the commands ask of a server."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp

from gql_server.errors import Busy, Rejected, TimedOut, Unavailable, UserError

Json = dict[str, Any]

_PASSING = frozenset({Unavailable.code, Busy.code, TimedOut.code, "INTERNAL"})


class GraphQLClient:
    """Sends operations to one server with one token. Use it as an asynchronous context manager."""

    def __init__(self, url: str, token: str, timeout: float = 120) -> None:
        """Take the URL of the GraphQL endpoint; `timeout` is in seconds, a request."""
        self._url = url
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}", "Accept": "application/graphql-response+json"},
            timeout=aiohttp.ClientTimeout(total=timeout),
        )

    async def __aenter__(self) -> "GraphQLClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def execute(self, document: str, variables: Mapping[str, object] | None = None) -> Json:
        """Return the data of an answer.

        Raises Rejected with what the server found wrong with the request, and Unavailable where there is no
        answer, or one that may be another the next time.
        """
        try:
            async with self._session.post(
                self._url, json={"query": document, "variables": variables or {}}
            ) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(
                f"The server at {self._url} does not answer: {_why(error)}. Is it the right address?"
            ) from error
        if not isinstance(answer, dict) or not (answer.get("errors") or isinstance(answer.get("data"), dict)):
            raise Unavailable(f"What answers at {self._url} is no GraphQL server ({response.status}).")
        if errors := answer.get("errors"):
            raise _refusal(errors)
        data: Json = answer["data"]
        return data


def _why(error: Exception) -> str:
    """Return in words why there is no answer."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no host has that name"
    if isinstance(error, aiohttp.ClientConnectorError):
        refused = isinstance(error.os_error, ConnectionRefusedError)
        return "nothing listens there" if refused else "it cannot be reached"
    if isinstance(error, TimeoutError):
        return "it takes too long"
    if isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError):
        return "the connection was lost"
    return "what is there speaks no GraphQL over HTTP"


def _refusal(errors: list[Json]) -> Rejected | Unavailable:
    told = [
        UserError(str((error.get("extensions") or {}).get("code", "ERROR")), str(error.get("message")))
        for error in errors
    ]
    if any(error.code in _PASSING for error in told):
        return Unavailable(f"The server cannot answer now: {told[0].message}")
    return Rejected(told)
