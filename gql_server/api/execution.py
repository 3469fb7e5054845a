"""Answers GraphQL requests, whatever brought them: an answer each, or for subscriptions a stream of answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import orjson
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    execute,
    subscribe,
)
from graphql.execution.values import VariableValues, get_variable_values

from gql_server.api.completion import PartExecutor
from gql_server.api.context import RequestContext, Services
from gql_server.api.errors import error_answers, graphql_error_answers
from gql_server.api.introspection import check_introspection
from gql_server.api.payloads import REF
from gql_server.api.schema import Schema
from gql_server.api.variables import check_variables
from gql_server.db.protocols import Database
from gql_server.domain.bounded_cache import ByteBoundedCache
from gql_server.domain.viewer import Role, Viewer
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import Document, DocumentCache, Operation
from gql_server.reads.links import PORTAL, ReadContext, ReadLimits
from gql_server.reads.reader import Plan, Reader
from gql_server.reads.selections import INTROSPECTION, collect_fields

VALIDATION = "GRAPHQL_VALIDATION_FAILED"
BAD_REQUEST = "BAD_REQUEST"
_NO_VARIABLES = VariableValues({}, {})
_KEPT_OF_SCHEMA = 8 * 1024 * 1024
"""Bytes of answers about the schema that are kept."""
_EVENTS_AT_ONCE = 2
"""Events of one district that are read at a time: its watchers all wake up together, and others have reads too."""

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
    """A request, its types checked. `price`: whether the answer shall say what it cost."""

    query: str
    variables: dict[str, Any]
    operation_name: str | None
    price: bool = False


def parse_request(body: object) -> GraphQLRequest:
    """Return the request in a JSON value. Raises Malformed."""
    if not isinstance(body, dict):
        raise Malformed("The body must be a JSON object with `query`.")
    query, variables, name = body.get("query"), body.get("variables"), body.get("operationName")
    extensions = body.get("extensions")
    if not isinstance(query, str) or not query:
        raise Malformed("`query` must be the text of a GraphQL document.")
    if not (variables is None or isinstance(variables, dict)):
        raise Malformed("`variables` must be an object.")
    if not (name is None or isinstance(name, str)):
        raise Malformed("`operationName` must be a text.")
    if not (extensions is None or isinstance(extensions, dict)):
        raise Malformed("`extensions` must be an object.")
    return GraphQLRequest(query, variables or {}, name, (extensions or {}).get("price") is True)


@dataclass(frozen=True, slots=True)
class RoleLimits:
    """What one read may ask for: by vendors, who sync whole districts, by administrators, and by portal roles."""

    vendor: ReadLimits
    admin: ReadLimits
    portal: ReadLimits

    def of(self, role: Role) -> ReadLimits:
        if role in PORTAL:
            return self.portal
        return self.vendor if role is Role.VENDOR else self.admin


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
        limits: RoleLimits,
    ) -> None:
        self._schema, self._documents = schema, documents
        self._db, self._host, self._services, self._limits = db, host, services, limits
        self._reader = Reader(schema.graphql, schema.links, {REF: None})
        self._mutations: set[asyncio.Task[ExecutionResult]] = set()
        # One thread: however many ask for the schema, it computes for one of them at a time.
        self._introspector = ThreadPoolExecutor(1, "introspection")
        self._introspections: ByteBoundedCache[object, dict[str, bytes]] = ByteBoundedCache(_KEPT_OF_SCHEMA)
        self._events: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    def prepare(self, request: GraphQLRequest) -> Prepared:
        """Check all of a request that can be checked without the database. Raises Refused."""
        if problem := check_variables(request.variables):
            raise Refused([{"message": problem, "extensions": {"code": BAD_REQUEST}}])
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
        operation, read = prepared.operation.node.operation, self._read(viewer)
        try:
            if operation is OperationType.QUERY:
                return await self._query(prepared, read)
            plan = self._plan(prepared, read)
        except Exception as error:
            return orjson.dumps({"data": None, "errors": _entries(error)})
        result = await self._finish_anyway(self._mutate(prepared, self._context(read, plan)))
        return _answer(result, _extensions(prepared, plan.price.of(prepared.variables.coerced), read))

    async def answers(self, prepared: Prepared, viewer: Viewer) -> AsyncIterator[bytes]:
        """Yield every answer to an operation of any kind. Raises Refused where a stream cannot begin or go on."""
        if not prepared.streams:
            yield await self.answer(prepared, viewer)
            return
        read = self._read(viewer)
        try:
            plan = self._plan(prepared, read)
            extensions = _extensions(prepared, plan.price.of(prepared.variables.coerced), read)
            async with aclosing(await self._subscribe(prepared, self._context(read, plan))) as results:
                async for result in results:
                    # Without data nobody knows where the stream stands: better to end it than to go on silently.
                    if result.data is None:
                        raise Refused(graphql_error_answers(result.errors or (), VALIDATION))
                    yield _answer(result, extensions)
        except Refused:
            raise
        except Exception as error:
            raise Refused(_entries(error)) from error

    def _read(self, viewer: Viewer) -> ReadContext:
        return ReadContext(viewer, self._db, self._host, self._limits.of(viewer.role))

    def _context(self, read: ReadContext, plan: Plan) -> RequestContext:
        events = self._events.setdefault(read.viewer.district.district_id, asyncio.Semaphore(_EVENTS_AT_ONCE))
        return RequestContext(read.viewer, self._services, self._reader, read, plan, events)

    def _plan(self, prepared: Prepared, read: ReadContext) -> Plan:
        """Return the plan of a mutation or subscription, before any of its work is begun.

        Raises Refused where its answer could not be given as it was asked for, TooExpensive.
        """
        plan = self._reader.plan(prepared.document, prepared.operation, prepared.variables, read)
        if plan.refusals:
            raise Refused(graphql_error_answers(plan.refusals, VALIDATION))
        return plan

    async def _query(self, prepared: Prepared, read: ReadContext) -> bytes:
        """Return the answer to a query. Raises what refuses all of it."""
        found = await self._introspection(prepared) if prepared.operation.introspects else {}
        answer = await self._reader.query(prepared.document, prepared.operation, prepared.variables, read)
        body = answer.json or b'{"data":null}'
        more: dict[str, Any] = {}
        if answer.json is not None and prepared.operation.introspects:
            data = orjson.loads(answer.json)["data"]
            own = {key: orjson.Fragment(json) for key, json in found.items()}
            told = {key: own[key] if key in own else data[key] for key in self._root_fields(prepared)}
            body = orjson.dumps({"data": told})
        if answer.refusals:
            more["errors"] = graphql_error_answers(answer.refusals, VALIDATION)
        more |= _extensions(prepared, answer.price, read)
        return body if not more else body[:-1] + b"," + orjson.dumps(more)[1:]

    async def _introspection(self, prepared: Prepared) -> dict[str, bytes]:
        """Return what the schema says of itself, as JSON by response keys: kept, or made in the one thread for it.

        Raises TooExpensive, GraphQLError.
        """
        key = (prepared.document.text, prepared.operation.name, orjson.dumps(prepared.request.variables))
        found = self._introspections.get(key)
        if found is None:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._introspector, self._introspected, prepared)
            size = 1_000 + 4 * len(key[0]) + len(key[2]) + sum(map(len, found.values()))
            self._introspections.put(key, found, size)
        return found

    def _introspected(self, prepared: Prepared) -> dict[str, bytes]:
        """Let graphql-core answer what is asked of the schema itself. Raises TooExpensive, GraphQLError."""
        document, node = prepared.document, prepared.operation.node
        check_introspection(self._schema.graphql, node.selection_set, document.fragments, prepared.variables)
        own = [
            nodes for nodes in self._root_fields(prepared).values() if nodes[0].name.value in INTROSPECTION
        ]
        if not own:
            return {}
        result = execute(
            self._schema.graphql,
            _document_of(node, [each for nodes in own for each in nodes], document.fragments.values()),
            variable_values=prepared.request.variables,
            hide_suggestions=True,
        )
        assert isinstance(result, ExecutionResult)
        if result.errors:
            raise result.errors[0]
        return {key: orjson.dumps(value) for key, value in (result.data or {}).items()}

    def _root_fields(self, prepared: Prepared) -> dict[str, list[FieldNode]]:
        """Return the fields of a query by response keys, in the order of its answer."""
        query_type, node = self._schema.graphql.query_type, prepared.operation.node
        assert query_type is not None
        return collect_fields(
            query_type, [node.selection_set], prepared.document.fragments, prepared.variables
        )

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

    async def _mutate(self, prepared: Prepared, context: RequestContext) -> ExecutionResult:
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
            "executor_class": PartExecutor,
        }

    async def _subscribe(self, prepared: Prepared, context: RequestContext) -> Any:
        """Return the stream of a subscription's results. Raises Refused where it cannot begin."""
        stream = subscribe(**self._arguments(prepared, context))
        if isinstance(stream, Awaitable):
            stream = await stream
        if isinstance(stream, ExecutionResult):
            raise Refused(graphql_error_answers(stream.errors or (), VALIDATION))
        return stream


def _document_of(
    operation: OperationDefinitionNode, fields: list[FieldNode], fragments: Iterable[FragmentDefinitionNode]
) -> DocumentNode:
    """Return a document with these fields of an operation alone."""
    alone = OperationDefinitionNode(
        operation=operation.operation,
        variable_definitions=operation.variable_definitions,
        selection_set=SelectionSetNode(selections=tuple(fields)),
    )
    return DocumentNode(definitions=(alone, *fragments))


def _extensions(prepared: Prepared, price: int, read: ReadContext) -> dict[str, Any]:
    """Return the entry of an answer that says what it cost, where the request asks for that."""
    if not prepared.request.price:
        return {}
    return {"extensions": {"price": {"price": price, "budget": read.limits.price}}}


def _entries(error: Exception) -> Entries:
    if isinstance(error, Refused):
        return error.errors
    if isinstance(error, GraphQLError):
        return graphql_error_answers([error], VALIDATION)
    return error_answers(error)


def _answer(result: ExecutionResult, extensions: dict[str, Any]) -> bytes:
    body: dict[str, Any] = {"data": result.data}
    if result.errors:
        body["errors"] = graphql_error_answers(result.errors, VALIDATION)
    return orjson.dumps({**body, **extensions})
