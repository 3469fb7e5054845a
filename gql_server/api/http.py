"""GraphQL over HTTP: POST /graphql, answered as JSON or server-sent events; WebSockets; /healthz and /readyz."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import lru_cache

import orjson
from aiohttp import WSCloseCode, web
from strawberry.http.ides import get_graphql_ide_html

from gql_server.api import sse, websocket
from gql_server.api.auth import Tokens
from gql_server.api.connection_limits import DIRECT_ROUTES
from gql_server.api.context import Services
from gql_server.api.districts import DistrictCache
from gql_server.api.execution import RequestExecutor, RoleLimits
from gql_server.api.graphql_request import BAD_REQUEST, GraphQLRequest, RequestError
from gql_server.api.json_response import JsonResponse
from gql_server.api.request_body import JSON, BadBody, read_request
from gql_server.api.schema import Schema
from gql_server.api.sessions import Session, Sessions
from gql_server.db.protocols import Database
from gql_server.errors import Busy, ConfigurationError, GqlServerError, TimedOut, Unauthenticated, Unavailable
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import DocumentCache

_GRAPHQL_JSON = "application/graphql-response+json"
_CLOSE_SECONDS = 3.0


class GraphQLHandler:
    """Handles the HTTP requests to /graphql."""

    def __init__(
        self,
        *,
        schema: Schema,
        documents: DocumentCache,
        tokens: Tokens,
        districts: DistrictCache,
        db: Database,
        host: PluginHost,
        services: Services,
        limits: RoleLimits,
        graphiql: bool,
        body_seconds: float,
    ) -> None:
        self._sessions = Sessions(tokens, districts)
        self._executor = RequestExecutor(
            schema=schema, documents=documents, db=db, host=host, services=services, limits=limits
        )
        self._graphiql = get_graphql_ide_html("graphiql") if graphiql else None
        self._body_seconds = body_seconds
        self._sockets: set[web.WebSocketResponse] = set()
        self._closing = asyncio.Event()

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Open a WebSocket, or show GraphiQL to a browser. Operations are not executed by GET."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request)
        if self._graphiql is not None and "text/html" in request.headers.get("Accept", ""):
            return web.Response(text=self._graphiql, content_type="text/html")
        return _error_response(405, "METHOD_NOT_ALLOWED", "Send GraphQL requests by POST.", {"Allow": "POST"})

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Execute one GraphQL request. The token comes first: the body of a stranger is not read."""
        try:
            session = await self._sessions.open(request.headers.get("Authorization", ""))
        except Unauthenticated as error:
            return _error_response(401, error.code, str(error), {"WWW-Authenticate": "Bearer"})
        except (TimedOut, Unavailable) as error:
            return _error_response(503, error.code, str(error), {"Retry-After": "1"})
        try:
            graphql_request = await read_request(request, self._body_seconds)
        except BadBody as bad:
            return _error_response(bad.status, bad.code, str(bad), bad.headers)
        return await self._respond(request, session, graphql_request)

    async def close(self, app: web.Application) -> None:
        """End all streams, so that the server can stop. Their clients then connect to another server."""
        self._closing.set()
        closing = (
            socket.close(code=WSCloseCode.GOING_AWAY, message=b"The server stops.")
            for socket in set(self._sockets)
        )
        with suppress(TimeoutError):  # a client that reads nothing must not delay the others
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.gather(*closing, return_exceptions=True)

    async def _respond(
        self, request: web.Request, session: Session, graphql_request: GraphQLRequest
    ) -> web.StreamResponse:
        """Execute a request, and respond in a media type that the client accepts."""
        media_type, accepts_events = _media_types(request.headers.get("Accept", ""))
        if media_type is None and not accepts_events:
            media_types = f"{_GRAPHQL_JSON}, {JSON} or {sse.MEDIA_TYPE}"
            return _error_response(406, "NOT_ACCEPTABLE", f"Responses are {media_types}.", {})
        try:
            prepared = await self._executor.prepare(graphql_request, session.viewer)
        except Busy as error:
            return _error_response(503, error.code, str(error), {"Retry-After": "1"})
        except RequestError as error:
            if media_type is None:
                return await self._stream(request, session, _single_response(error))
            return _request_error_response(error, media_type)
        # A client that accepts both gets events only for a subscription.
        if accepts_events and (media_type is None or prepared.is_subscription):
            responses = self._executor.stream(prepared, session.viewer)
            return await self._stream(request, session, responses)
        assert media_type is not None
        if prepared.is_subscription:
            return _request_error_response(_subscription_error(), media_type)
        body = await self._executor.execute(prepared, session.viewer)
        return JsonResponse(body, media_type)

    async def _stream(
        self, request: web.Request, session: Session, responses: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        """Send GraphQL responses as events until they end, the token expires, or the server closes."""
        return await sse.stream_events(
            request, responses, seconds=session.seconds_left, closing=self._closing
        )

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if not websocket.offers_protocol(request):
            message = (
                f"WebSockets use the protocol {websocket.SUBPROTOCOL}. Ask for it in Sec-WebSocket-Protocol."
            )
            return _error_response(400, BAD_REQUEST, message, {})
        socket = websocket.new_socket(request.client_max_size)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            authorization = request.headers.get("Authorization", "")
            await websocket.ClientConnection(socket, self._executor, self._sessions, authorization).serve()
        finally:
            self._sockets.discard(socket)
        return socket


async def _single_response(error: RequestError) -> AsyncIterator[bytes]:
    """Yield the response that reports an error, in place of a stream."""
    yield error.response


def _subscription_error() -> RequestError:
    message = f"Subscriptions need a WebSocket, or a POST with Accept: {sse.MEDIA_TYPE}."
    return RequestError([{"message": message, "extensions": {"code": BAD_REQUEST}}])


@lru_cache(maxsize=256)
def _media_types(accept: str) -> tuple[str | None, bool]:
    """Return the media type of a JSON response, None if the client accepts none, and whether it accepts events."""
    accepted = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    accepts_events = sse.MEDIA_TYPE in accepted
    if _GRAPHQL_JSON in accepted:
        return _GRAPHQL_JSON, accepts_events
    accepts_json = not accept or bool(accepted & {JSON, "application/*", "*/*"})
    return JSON if accepts_json else None, accepts_events


def _request_error_response(error: RequestError, media_type: str) -> web.Response:
    """Return the response to a request that cannot be executed.

    GraphQL over HTTP requires status 400, but 200 for the older media type application/json.
    """
    status = 400 if media_type == _GRAPHQL_JSON else 200
    return web.Response(body=error.response, status=status, content_type=media_type, charset="utf-8")


def _error_response(status: int, code: str, message: str, headers: Mapping[str, str]) -> web.Response:
    body = orjson.dumps({"errors": [{"message": message, "extensions": {"code": code}}]})
    response = web.Response(body=body, status=status, content_type=JSON, charset="utf-8")
    response.headers.update(headers)
    return response


def add_routes(
    app: web.Application, handler: GraphQLHandler, readiness: Callable[[], Awaitable[Mapping[str, object]]]
) -> None:
    """Add /graphql; /healthz, which tells that the process runs; and /readyz, which tells that it can do its work.

    `readiness` returns more entries for the response of /readyz, or raises the error that says why it is not ready.
    """

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(request: web.Request) -> web.Response:
        try:
            more = await readiness()
        except (ConfigurationError, TimedOut, Unavailable) as error:
            return web.json_response({"status": "not ready", "because": str(error)}, status=503)
        except GqlServerError:
            return web.json_response({"status": "not ready"}, status=503)
        return web.json_response({"status": "ready", **more})

    app.router.add_post("/graphql", handler.post)
    app[DIRECT_ROUTES] = {("POST", "/graphql"): handler.post}
    app.router.add_get("/graphql", handler.get)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.on_shutdown.append(handler.close)
