"""A small GraphQL client over HTTP, for what the commands ask of a server."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp

from gql_server.errors import Unavailable

Json = dict[str, Any]


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

    async def execute(self, document: str, variables: Mapping[str, object]) -> Json:
        """Return the data of an answer. Raises Unavailable where there is none, with what was said."""
        try:
            async with self._session.post(
                self._url, json={"query": document, "variables": variables}
            ) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"The server does not answer: {type(error).__name__}.") from error
        if not isinstance(answer, dict):
            raise Unavailable(f"The server answered {response.status}.")
        if errors := answer.get("errors"):
            raise Unavailable(f"The server refused: {'; '.join(str(e.get('message')) for e in errors)}")
        data: Json = answer["data"]
        return data
