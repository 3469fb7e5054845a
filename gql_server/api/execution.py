"""Answers GraphQL requests, whatever brought them: an answer each, or for subscriptions a stream of answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from graphql import ExecutionResult, GraphQLError, OperationType, execute, subscribe
from graphql.execution.values import VariableValues, get_variable_values

from gql_server.api.context import RequestContext, Services
from gql_server.api.errors import error_answers, graphql_error_answers
from gql_server.api.schema import Schema
from gql_server.db.protocols import Database
from gql_server.domain.viewer import Role, Viewer
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import Document, DocumentCache, Operation
from gql_server.reads.links import ReadContext
from gql_server.reads.reader import Reader

VALIDATION = "GRAPHQL_VALIDATION_FAILED"
BAD_REQUEST = "BAD_REQUEST"
_NO_VARIABLES = VariableValues({}, {})

Entries = list[dict[str, Any]]
"""The entries of `errors` in an answer."""


class Refused(Exception):
    """A request that was not executed, or a stream that cannot go on."""

    def __init__(self, errors: Entries) -> None:
        super().__init__("; ".join(str(error["message"]) for error in errors))
        self.errors = errors

    @property
    def answer(self) -> bytes:
        return orjson.dumps({"errors": self.errors})


class Malformed(Exception):
    """What was sent is no GraphQL request. The message says what one is."""


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """A request, its types checked."""

    query: str
    variables: dict[str, Any]
    operation_name: str | None


def parse_request(body: object) -> GraphQLRequest:
    """Return the request in a JSON value. Raises Malformed."""
    if not isinstance(body, dict):
        raise Malformed("The body must be a JSON object with `query`.")
    query, variables, name = body.get("query"), body.get("variables"), body.get("operationName")
    if not isinstance(query, str) or not query:
        raise Malformed("`query` must be the text of a GraphQL document.")
    if not (variables is None or isinstance(variables, dict)):
        raise Malformed("`variables` must be an object.")
    if not (name is None or isinstance(name, str)):
        raise Malformed("`operationName` must be a text.")
    return GraphQLRequest(query, variables or {}, name)


@dataclass(frozen=True, slots=True)
class PageLimits:
    """The largest `first` of a connection: for vendors, who sync whole districts, and for all others."""

    vendor: int
    others: int

    def of(self, role: Role) -> int:
        return self.vendor if role is Role.VENDOR else self.others


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request whose document is valid, with the operation that it asks for."""

    request: GraphQLRequest
    document: Document
    operation: Operation
    variables: VariableValues

    @property
    def streams(self) -> bool:
        """Whether it has many answers: a subscription."""
        return self.operation.node.operation is OperationType.SUBSCRIPTION


class Executor:
    """Executes the requests of all viewers. One for the server's life."""

    def __init__(
        self,
        *,
        schema: Schema,
        documents: DocumentCache,
        db: Database,
        host: PluginHost,
        services: Services,
        pages: PageLimits,
    ) -> None:
        self._schema, self._documents = schema, documents
        self._db, self._host, self._services, self._pages = db, host, services, pages
        self._reader = Reader(schema.graphql, schema.links)
        self._mutations: set[asyncio.Task[ExecutionResult]] = set()

    def prepare(self, request: GraphQLRequest) -> Prepared:
        """Check all of a request that can be checked without the database. Raises Refused."""
        document = self._documents.get(request.query)
        if document.errors:
            raise Refused(graphql_error_answers(document.errors, VALIDATION))
        try:
            operation = document.operation(request.operation_name)
            variables = self._variables(operation, request.variables)
        except GraphQLError as error:
            raise Refused(graphql_error_answers([error], BAD_REQUEST)) from None
        if isinstance(variables, list):
            raise Refused(graphql_error_answers(variables, VALIDATION))
        return Prepared(request, document, operation, variables)

    async def answer(self, prepared: Prepared, viewer: Viewer) -> bytes:
        """Return the answer to a query or mutation. What fails in it is told in its `errors`."""
        operation = prepared.operation
        read = ReadContext(viewer, self._db, self._host, self._pages.of(viewer.role))
        if operation.compilable:
            return await self._query(prepared, read)
        work = self._execute(prepared, self._context(read))
        if operation.node.operation is OperationType.MUTATION:
            work = self._finish_anyway(work)
        return _answer(await work)

    async def answers(self, prepared: Prepared, viewer: Viewer) -> AsyncIterator[bytes]:
        """Yield every answer to an operation of any kind. Raises Refused where a stream cannot begin or go on."""
        if not prepared.streams:
            yield await self.answer(prepared, viewer)
            return
        read = ReadContext(viewer, self._db, self._host, self._pages.of(viewer.role))
        try:
            async with aclosing(await self._subscribe(prepared, self._context(read))) as results:
                async for result in results:
                    # Without data nobody knows where the stream stands: better to end it than to go on silently.
                    if result.data is None:
                        raise Refused(graphql_error_answers(result.errors or (), VALIDATION))
                    yield _answer(result)
        except Refused:
            raise
        except GraphQLError as error:
            raise Refused(graphql_error_answers([error], VALIDATION)) from error
        except Exception as error:
            raise Refused(error_answers(error)) from error

    def _context(self, read: ReadContext) -> RequestContext:
        return RequestContext(read.viewer, self._services, self._reader, read)

    async def _query(self, prepared: Prepared, read: ReadContext) -> bytes:
        try:
            return await self._reader.query(prepared.document, prepared.operation, prepared.variables, read)
        except GraphQLError as error:  # null in a variable where the argument's type does not take it
            entries = graphql_error_answers([error], VALIDATION)
        except Exception as error:
            entries = error_answers(error)
        return orjson.dumps({"data": None, "errors": entries})

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

    async def _execute(self, prepared: Prepared, context: RequestContext) -> ExecutionResult:
        """Run what is not compiled whole: mutations and introspection."""
        result = execute(**self._arguments(prepared, context))
        return await result if isinstance(result, Awaitable) else result

    def _arguments(self, prepared: Prepared, context: RequestContext) -> dict[str, Any]:
        """Return what graphql-core's `execute` and `subscribe` are both called with."""
        assert prepared.document.ast is not None
        return {
            "schema": self._schema.graphql,
            "document": prepared.document.ast,
            "context_value": context,
            "variable_values": prepared.request.variables,
            "operation_name": prepared.request.operation_name,
            "hide_suggestions": True,
        }

    async def _subscribe(self, prepared: Prepared, context: RequestContext) -> Any:
        """Return the stream of a subscription's results. Raises Refused where it cannot begin."""
        stream = subscribe(**self._arguments(prepared, context))
        if isinstance(stream, Awaitable):
            stream = await stream
        if isinstance(stream, ExecutionResult):
            raise Refused(graphql_error_answers(stream.errors or (), VALIDATION))
        return stream


def _answer(result: ExecutionResult) -> bytes:
    body: dict[str, Any] = {"data": result.data}
    if result.errors:
        body["errors"] = graphql_error_answers(result.errors, VALIDATION)
    return orjson.dumps(body)
