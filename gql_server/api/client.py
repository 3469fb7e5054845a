"""A small GraphQL client over HTTP, for the commands that call a running server."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp

from gql_server.errors import Busy, Rejected, TimedOut, Unavailable, UserError

Json = dict[str, Any]

_TRANSIENT_CODES = frozenset({Unavailable.code, Busy.code, TimedOut.code, "INTERNAL"})


class GraphQLClient:
    """Sends operations to one server with one token. Use it as an asynchronous context manager."""

    def __init__(self, url: str, token: str, timeout: float = 120) -> None:
        """`url` is the GraphQL endpoint; `timeout` is in seconds for each request."""
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
        """Return the `data` of the response.

        Raises Rejected with the errors in the request, and Unavailable if there is no response or the errors are
        transient.
        """
        try:
            async with self._session.post(
                self._url, json={"query": document, "variables": variables or {}}
            ) as response:
                body = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(
                f"The server at {self._url} does not answer: {_cause(error)}. Is it the right address?"
            ) from error
        if not isinstance(body, dict) or not (body.get("errors") or isinstance(body.get("data"), dict)):
            raise Unavailable(f"What answers at {self._url} is not a GraphQL server ({response.status}).")
        if errors := body.get("errors"):
            raise _exception(errors)
        data: Json = body["data"]
        return data


def _cause(error: Exception) -> str:
    """Return why there is no response, as part of a sentence."""
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


def _exception(errors: list[Json]) -> Rejected | Unavailable:
    user_errors = [
        UserError(str((error.get("extensions") or {}).get("code", "ERROR")), str(error.get("message")))
        for error in errors
    ]
    if any(error.code in _TRANSIENT_CODES for error in user_errors):
        return Unavailable(f"The server cannot answer now: {user_errors[0].message}")
    return Rejected(user_errors)
