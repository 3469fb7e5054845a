"""GraphQL over HTTP: POST /graphql with JSON, answered with JSON or as events; WebSockets; /healthz and /readyz."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress

import orjson
from aiohttp import WSCloseCode, web
from strawberry.http.ides import get_graphql_ide_html

from gql_server.api import sse, websocket
from gql_server.api.auth import Tokens
from gql_server.api.bodies import JSON, BadBody, read_request
from gql_server.api.context import Services
from gql_server.api.districts import DistrictCache
from gql_server.api.execution import BAD_REQUEST, Executor, Prepared, Refused, RoleLimits
from gql_server.api.schema import Schema
from gql_server.api.sessions import Session, Sessions
from gql_server.db.protocols import Database
from gql_server.errors import ConfigurationError, GqlServerError, TimedOut, Unauthenticated, Unavailable
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import DocumentCache

_GRAPHQL_JSON = "application/graphql-response+json"
_CLOSE_SECONDS = 3.0


class GraphQLHandler:
    """Answers /graphql."""

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
        self._executor = Executor(
            schema=schema, documents=documents, db=db, host=host, services=services, limits=limits
        )
        self._graphiql = get_graphql_ide_html("graphiql") if graphiql else None
        self._body_seconds = body_seconds
        self._sockets: set[web.WebSocketResponse] = set()
        self._closing = asyncio.Event()

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Open WebSockets, and show GraphiQL to browsers; queries are sent by POST."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request)
        if self._graphiql is not None and "text/html" in request.headers.get("Accept", ""):
            return web.Response(text=self._graphiql, content_type="text/html")
        return _refuse(405, "METHOD_NOT_ALLOWED", "Send GraphQL requests by POST.", {"Allow": "POST"})

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Answer one GraphQL request."""
        try:
            session = await self._sessions.open(request.headers.get("Authorization", ""))
        except Unauthenticated as error:
            return _refuse(401, error.code, str(error), {"WWW-Authenticate": "Bearer"})
        except (TimedOut, Unavailable) as error:
            return _refuse(503, error.code, str(error), {"Retry-After": "1"})
        try:
            parsed = await read_request(request, self._body_seconds)
        except BadBody as bad:
            return _refuse(bad.status, bad.code, str(bad), bad.headers)
        accept = request.headers.get("Accept")
        media_type = _media_type(accept)
        takes_events = sse.MEDIA_TYPE in _accepted(accept)
        if media_type is None and not takes_events:
            answers = f"{_GRAPHQL_JSON}, {JSON} or {sse.MEDIA_TYPE}"
            return _refuse(406, "NOT_ACCEPTABLE", f"Answers are {answers}.", {})
        try:
            prepared = self._executor.prepare(parsed)
        except Refused as refusal:
            if media_type is None:
                return await self._events(request, session, refusal)
            return _failed(refusal, media_type)
        # Who takes both gets events only where there are many.
        if takes_events and (media_type is None or prepared.streams):
            return await self._events(request, session, prepared)
        assert media_type is not None
        if prepared.streams:
            words = f"Subscriptions are answered over a WebSocket, or by POST with Accept: {sse.MEDIA_TYPE}."
            return _failed(Refused([{"message": words, "extensions": {"code": BAD_REQUEST}}]), media_type)
        answer = await self._executor.answer(prepared, session.viewer)
        return web.Response(body=answer, content_type=media_type, charset="utf-8")

    async def close(self, app: web.Application) -> None:
        """End all streams, so that the server can stop; clients that are told so connect elsewhere."""
        self._closing.set()
        closing = (
            socket.close(code=WSCloseCode.GOING_AWAY, message=b"The server stops.")
            for socket in set(self._sockets)
        )
        with suppress(TimeoutError):  # a client that reads nothing does not hold up the others
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.gather(*closing, return_exceptions=True)

    async def _events(
        self, request: web.Request, session: Session, what: Prepared | Refused
    ) -> web.StreamResponse:
        answers = (
            _refusing(what) if isinstance(what, Refused) else self._executor.answers(what, session.viewer)
        )
        return await sse.stream_events(request, answers, seconds=session.seconds_left, closing=self._closing)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if not websocket.offers_protocol(request):
            words = f"WebSockets speak {websocket.SUBPROTOCOL} here. Ask for it in Sec-WebSocket-Protocol."
            return _refuse(400, BAD_REQUEST, words, {})
        socket = websocket.new_socket(request.client_max_size)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            authorization = request.headers.get("Authorization", "")
            await websocket.Connection(socket, self._executor, self._sessions, authorization).serve()
        finally:
            self._sockets.discard(socket)
        return socket


async def _refusing(refusal: Refused) -> AsyncIterator[bytes]:
    """Give a refusal as the stream that it is in place of."""
    yield refusal.answer


def _accepted(accept: str | None) -> set[str]:
    return {part.split(";")[0].strip().lower() for part in (accept or "").split(",")}


def _media_type(accept: str | None) -> str | None:
    """Return the media type of JSON to answer in, or None where the client takes none of ours."""
    if not accept:
        return JSON
    accepted = _accepted(accept)
    if _GRAPHQL_JSON in accepted:
        return _GRAPHQL_JSON
    return JSON if accepted & {JSON, "application/*", "*/*"} else None


def _failed(refusal: Refused, media_type: str) -> web.Response:
    """Answer a request that could not be executed: 400, but 200 for clients of the older media type."""
    status = 400 if media_type == _GRAPHQL_JSON else 200
    return web.Response(body=refusal.answer, status=status, content_type=media_type, charset="utf-8")


def _refuse(status: int, code: str, message: str, headers: Mapping[str, str]) -> web.Response:
    body = orjson.dumps({"errors": [{"message": message, "extensions": {"code": code}}]})
    response = web.Response(body=body, status=status, content_type=JSON, charset="utf-8")
    response.headers.update(headers)
    return response


def add_routes(
    app: web.Application, handler: GraphQLHandler, check_ready: Callable[[], Awaitable[Mapping[str, object]]]
) -> None:
    """Add /graphql, /healthz (the process answers) and /readyz (so does the database, migrated).

    `check_ready` returns what /readyz says beside that it is ready.
    """

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(request: web.Request) -> web.Response:
        try:
            more = await check_ready()
        except (ConfigurationError, TimedOut, Unavailable) as error:
            return web.json_response({"status": "not ready", "because": str(error)}, status=503)
        except GqlServerError:
            return web.json_response({"status": "not ready"}, status=503)
        return web.json_response({"status": "ready", **more})

    app.router.add_post("/graphql", handler.post)
    app.router.add_get("/graphql", handler.get)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.on_shutdown.append(handler.close)
