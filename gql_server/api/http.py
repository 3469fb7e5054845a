"""GraphQL over HTTP: POST /graphql with JSON; GraphiQL for browsers; /healthz and /readyz."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from graphql import ExecutionResult, GraphQLError, OperationType, execute
from graphql.execution.values import VariableValues, get_variable_values
from strawberry.http.ides import get_graphql_ide_html

from gql_server.api.auth import Tokens
from gql_server.api.context import RequestContext, Services
from gql_server.api.districts import DistrictCache
from gql_server.api.errors import error_answers, graphql_error_answers
from gql_server.api.schema import Schema
from gql_server.db.protocols import Database
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import ConfigurationError, GqlServerError, Unauthenticated, Unavailable
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import Document, DocumentCache, Operation
from gql_server.reads.links import ReadContext
from gql_server.reads.reader import Reader

_GRAPHQL_JSON = "application/graphql-response+json"
_JSON = "application/json"
_VALIDATION = "GRAPHQL_VALIDATION_FAILED"
_BAD_REQUEST = "BAD_REQUEST"
_NO_VARIABLES = VariableValues({}, {})


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """The body of a request, its types checked."""

    query: str
    variables: dict[str, Any]
    operation_name: str | None


@dataclass(frozen=True, slots=True)
class PageLimits:
    """The largest `first` of a connection: for vendors, who sync whole districts, and for all others."""

    vendor: int
    others: int

    def of(self, role: Role) -> int:
        return self.vendor if role is Role.VENDOR else self.others


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
        pages: PageLimits,
        graphiql: bool,
    ) -> None:
        self._schema, self._documents, self._tokens = schema, documents, tokens
        self._districts, self._db, self._host, self._services = districts, db, host, services
        self._pages = pages
        self._mutations: set[asyncio.Task[ExecutionResult]] = set()
        self._reader = Reader(schema.graphql, schema.links)
        self._graphiql = get_graphql_ide_html("graphiql") if graphiql else None

    async def get(self, request: web.Request) -> web.Response:
        """Show GraphiQL to browsers; queries are sent by POST."""
        if self._graphiql is not None and "text/html" in request.headers.get("Accept", ""):
            return web.Response(text=self._graphiql, content_type="text/html")
        return _refuse(405, "METHOD_NOT_ALLOWED", "Send GraphQL requests by POST.", {"Allow": "POST"})

    async def post(self, request: web.Request) -> web.Response:
        """Answer one GraphQL request."""
        try:
            viewer = await self._viewer(request)
        except Unauthenticated as error:
            return _refuse(401, error.code, str(error), {"WWW-Authenticate": "Bearer"})
        except Unavailable as error:
            return _refuse(503, error.code, str(error), {"Retry-After": "1"})
        parsed = await _read_body(request)
        if isinstance(parsed, web.Response):
            return parsed
        media_type = _media_type(request.headers.get("Accept"))
        if media_type is None:
            return _refuse(406, "NOT_ACCEPTABLE", f"Answers are {_GRAPHQL_JSON} or {_JSON}.", {})
        return await self._answer(parsed, viewer, media_type)

    async def _viewer(self, request: web.Request) -> Viewer:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated(
                "The request carries no token. Send one as `Authorization: Bearer <token>`."
            )
        claims = self._tokens.verify(token.strip())
        district = await self._districts.find(claims.district)
        if district is None:
            raise Unauthenticated("The token is for a district that this server does not know.")
        return Viewer(district, claims.role, claims.person)

    async def _answer(self, request: GraphQLRequest, viewer: Viewer, media_type: str) -> web.Response:
        document = self._documents.get(request.query)
        if document.errors:
            return _failed(graphql_error_answers(document.errors, _VALIDATION), media_type)
        try:
            operation = document.operation(request.operation_name)
            variables = self._variables(operation, request.variables)
        except GraphQLError as error:
            return _failed(graphql_error_answers([error], _BAD_REQUEST), media_type)
        if isinstance(variables, list):
            return _failed(graphql_error_answers(variables, _VALIDATION), media_type)
        if operation.node.operation is OperationType.SUBSCRIPTION:
            refused = GraphQLError("Subscriptions are not answered over POST.")
            return _failed(graphql_error_answers([refused], _BAD_REQUEST), media_type)
        read = ReadContext(viewer, self._db, self._host, self._pages.of(viewer.role))
        if operation.compilable:
            return await self._query(document, operation, variables, read, media_type)
        context = RequestContext(viewer, self._services, self._reader, read)
        work = self._execute(document, operation, request, context)
        if operation.node.operation is OperationType.MUTATION:
            work = self._finish_anyway(work)
        result = await work
        body: dict[str, Any] = {"data": result.data}
        if result.errors:
            body["errors"] = graphql_error_answers(result.errors, _VALIDATION)
        return web.Response(body=orjson.dumps(body), content_type=media_type, charset="utf-8")

    async def _query(
        self,
        document: Document,
        operation: Operation,
        variables: VariableValues,
        read: ReadContext,
        media_type: str,
    ) -> web.Response:
        try:
            answer = await self._reader.query(document, operation, variables, read)
        except GraphQLError as error:  # null in a variable where the argument's type does not take it
            return _json(
                {"data": None, "errors": graphql_error_answers([error], _VALIDATION)}, 200, media_type
            )
        except Exception as error:
            entries = error_answers(error)
            return _json({"data": None, "errors": entries}, 200, media_type)
        return web.Response(body=answer, content_type=media_type, charset="utf-8")

    def _variables(self, operation: Operation, given: dict[str, Any]) -> VariableValues | list[GraphQLError]:
        definitions = operation.node.variable_definitions
        if not definitions:
            return _NO_VARIABLES
        return get_variable_values(
            self._schema.graphql, definitions, given, max_errors=20, hide_suggestions=True
        )

    async def _finish_anyway(self, work: Coroutine[Any, Any, ExecutionResult]) -> ExecutionResult:
        """Carry a mutation to its end even when the client goes away in the middle."""
        task = asyncio.create_task(work)
        self._mutations.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._mutations.discard)
        return await asyncio.shield(task)

    async def _execute(
        self, document: Document, operation: Operation, request: GraphQLRequest, context: RequestContext
    ) -> ExecutionResult:
        """Run what is not compiled whole: mutations and introspection."""
        assert document.ast is not None
        result = execute(
            self._schema.graphql,
            document.ast,
            context_value=context,
            variable_values=request.variables,
            operation_name=request.operation_name,
            hide_suggestions=True,
        )
        return await result if isinstance(result, Awaitable) else result


async def _read_body(request: web.Request) -> GraphQLRequest | web.Response:
    if request.content_type != _JSON:
        return _refuse(415, "UNSUPPORTED_MEDIA_TYPE", f"Send the request as {_JSON}.", {})
    try:
        body = orjson.loads(await request.read())
    except web.HTTPRequestEntityTooLarge:
        return _refuse(413, "TOO_LARGE", "The request is too large. Send less in one request.", {})
    except (ValueError, web.HTTPException):
        return _refuse(400, _BAD_REQUEST, "The body is not JSON in UTF-8.", {})
    if not isinstance(body, dict):
        return _refuse(400, _BAD_REQUEST, "The body must be a JSON object with `query`.", {})
    query, variables, name = body.get("query"), body.get("variables"), body.get("operationName")
    if not isinstance(query, str) or not query:
        return _refuse(400, _BAD_REQUEST, "`query` must be the text of a GraphQL document.", {})
    if not (variables is None or isinstance(variables, dict)):
        return _refuse(400, _BAD_REQUEST, "`variables` must be an object.", {})
    if not (name is None or isinstance(name, str)):
        return _refuse(400, _BAD_REQUEST, "`operationName` must be a text.", {})
    return GraphQLRequest(query, variables or {}, name)


def _media_type(accept: str | None) -> str | None:
    """Return the media type to answer in, or None where the client takes none of ours."""
    if not accept:
        return _JSON
    accepted = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    if _GRAPHQL_JSON in accepted:
        return _GRAPHQL_JSON
    return _JSON if accepted & {_JSON, "application/*", "*/*"} else None


def _failed(errors: list[dict[str, Any]], media_type: str) -> web.Response:
    """Answer a request that could not be executed: 400, but 200 for clients of the older media type."""
    return _json({"errors": errors}, 400 if media_type == _GRAPHQL_JSON else 200, media_type)


def _refuse(status: int, code: str, message: str, headers: dict[str, str]) -> web.Response:
    response = _json({"errors": [{"message": message, "extensions": {"code": code}}]}, status, _JSON)
    response.headers.update(headers)
    return response


def _json(body: object, status: int, media_type: str) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type=media_type, charset="utf-8")


def add_routes(
    app: web.Application, handler: GraphQLHandler, check_ready: Callable[[], Awaitable[None]]
) -> None:
    """Add /graphql, /healthz (the process answers) and /readyz (so does the database, migrated)."""

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(request: web.Request) -> web.Response:
        try:
            await check_ready()
        except (ConfigurationError, Unavailable) as error:
            return web.json_response({"status": "not ready", "because": str(error)}, status=503)
        except GqlServerError:
            return web.json_response({"status": "not ready"}, status=503)
        return web.json_response({"status": "ready"})

    app.router.add_post("/graphql", handler.post)
    app.router.add_get("/graphql", handler.get)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
