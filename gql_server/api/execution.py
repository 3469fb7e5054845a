"""Executes GraphQL requests, whichever transport they came by: one response each, or a stream for subscriptions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import orjson
from graphql import ExecutionResult, GraphQLError, OperationType, subscribe
from graphql.execution.values import VariableValues

from gql_server.api.coercion import coerce_variables
from gql_server.api.context import RequestContext, Services
from gql_server.api.errors import error_entries, graphql_error_entries
from gql_server.api.fields import REF
from gql_server.api.graphql_request import (
    BAD_REQUEST,
    VALIDATION,
    ErrorEntries,
    GraphQLRequest,
    PreparedRequest,
    RequestError,
)
from gql_server.api.introspection import Introspector
from gql_server.api.json_executor import JsonFragmentExecutor
from gql_server.api.schema import Schema
from gql_server.api.variables import validate_variables
from gql_server.db.protocols import Database
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import PluginError
from gql_server.hooks.host import PluginHost
from gql_server.reads.background import Background
from gql_server.reads.documents import Document, DocumentCache, Operation
from gql_server.reads.executor import CompiledOperation, ReadExecutor
from gql_server.reads.links import PORTAL_ROLES, ReadContext, ReadLimits
from gql_server.services.rules.redact import log_plugin_failure

_NO_VARIABLES = VariableValues({}, {})
_CONCURRENT_EVENTS = 2
"""How many events of one district are read at a time. All its subscribers wake up together, and must leave database
connections for other requests."""


@dataclass(frozen=True, slots=True)
class RoleLimits:
    """The limits of reads for vendors (who synchronise whole districts), administrators and portal roles."""

    vendor: ReadLimits
    admin: ReadLimits
    portal: ReadLimits

    def for_role(self, role: Role) -> ReadLimits:
        if role in PORTAL_ROLES:
            return self.portal
        return self.vendor if role is Role.VENDOR else self.admin


class RequestExecutor:
    """Executes the requests of all viewers. A server has one."""

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
        self._background = Background()
        self._reads = ReadExecutor(schema.graphql, schema.links, {REF: None}, background=self._background)
        self._introspector = Introspector(schema.graphql)
        self._mutations: set[asyncio.Task[ExecutionResult]] = set()
        self._event_slots: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    async def prepare(self, request: GraphQLRequest, viewer: Viewer) -> PreparedRequest:
        """Validate all of a request that can be validated without the database. Raises RequestError, Busy."""
        if problem := validate_variables(request.variables):
            raise RequestError([{"message": problem, "extensions": {"code": BAD_REQUEST}}])
        document = self._documents.find(request.query) or await self._new_document(request.query, viewer)
        if document.errors:
            raise RequestError(graphql_error_entries(document.errors, VALIDATION))
        try:
            operation = document.operation(request.operation_name)
            variables = self._coerce_variables(operation, request.variables)
        except GraphQLError as error:
            raise RequestError(graphql_error_entries([error], BAD_REQUEST)) from None
        if isinstance(variables, list):
            raise RequestError(graphql_error_entries(variables, VALIDATION, document))
        return PreparedRequest(request, document, operation, variables)

    async def _new_document(self, text: str, viewer: Viewer) -> Document:
        """Return a document that was parsed and validated outside of the event loop. Raises Busy."""
        find, make = partial(self._documents.find, text), partial(self._documents.get, text)
        return await self._background.once(viewer, text, find, make)

    async def execute(self, prepared: PreparedRequest, viewer: Viewer) -> bytes:
        """Return the response to a query or mutation, as JSON. Errors are entries of its `errors`."""
        read_context = self._read_context(viewer)
        try:
            if prepared.operation.node.operation is OperationType.QUERY:
                return await self._query(prepared, read_context)
            compiled = await self._compile(prepared, read_context)
        except Exception as error:
            return orjson.dumps({"data": None, "errors": _error_entries(error, prepared.document)})
        result = await self._shielded(self._mutate(prepared, self._context(read_context, compiled)))
        price = compiled.price.for_variables(prepared.variables.coerced)
        return _response(result, _extensions(prepared, price, read_context), prepared.document)

    async def stream(self, prepared: PreparedRequest, viewer: Viewer) -> AsyncIterator[bytes]:
        """Yield each response to an operation of any kind, as JSON.

        Raises RequestError if a subscription cannot start or go on.
        """
        if not prepared.is_subscription:
            yield await self.execute(prepared, viewer)
            return
        read_context = self._read_context(viewer)
        try:
            compiled = await self._compile(prepared, read_context)
            price = compiled.price.for_variables(prepared.variables.coerced)
            extensions = _extensions(prepared, price, read_context)
            async with aclosing(
                await self._subscribe(prepared, self._context(read_context, compiled))
            ) as results:
                async for result in results:
                    # An event without data would leave the client with an old state: end the stream instead.
                    if result.data is None:
                        raise RequestError(_execution_errors(result, prepared.document))
                    yield _response(result, extensions, prepared.document)
        except RequestError:
            raise
        except Exception as error:
            raise RequestError(_error_entries(error, prepared.document)) from error

    def _read_context(self, viewer: Viewer) -> ReadContext:
        return ReadContext(viewer, self._db, self._host, self._limits.for_role(viewer.role))

    def _context(self, read_context: ReadContext, compiled: CompiledOperation) -> RequestContext:
        viewer = read_context.viewer
        event_slots = self._event_slots.setdefault(
            viewer.district.district_id, asyncio.Semaphore(_CONCURRENT_EVENTS)
        )
        return RequestContext(viewer, self._services, self._reads, read_context, compiled, event_slots)

    async def _compile(self, prepared: PreparedRequest, read_context: ReadContext) -> CompiledOperation:
        """Compile the reads of a mutation or subscription, before it does any work.

        Raises TooExpensive, Busy, and RequestError if a field cannot be answered.
        """
        compiled = await self._reads.compiled(
            prepared.document, prepared.operation, prepared.variables, read_context
        )
        if compiled.errors:
            raise RequestError(graphql_error_entries(compiled.errors, VALIDATION, prepared.document))
        return compiled

    async def _query(self, prepared: PreparedRequest, read_context: ReadContext) -> bytes:
        """Return the response to a query. Raises an error that makes the whole `data` null."""
        introspects = prepared.operation.introspects
        introspection = await self._introspector.resolve(prepared) if introspects else {}
        district = read_context.viewer.district
        try:
            result = await self._reads.query(
                prepared.document, prepared.operation, prepared.variables, read_context
            )
        except PluginError as error:
            await log_plugin_failure(self._db, district, error)
            raise
        body = result.json or b'{"data":null}'
        if not result.errors and not introspects and not prepared.request.report_price:
            return body
        for failure in _plugin_failures(result.errors):
            await log_plugin_failure(self._db, district, failure)
        if result.json is not None and introspects:
            data = orjson.loads(result.json)["data"]
            data |= {key: orjson.Fragment(json) for key, json in introspection.items()}
            keys = self._introspector.root_fields(prepared)
            body = orjson.dumps({"data": {key: data[key] for key in keys}})
        more: dict[str, Any] = {}
        if result.errors:
            more["errors"] = graphql_error_entries(result.errors, VALIDATION, prepared.document)
        more |= _extensions(prepared, result.price, read_context)
        return body if not more else body[:-1] + b"," + orjson.dumps(more)[1:]

    def _coerce_variables(
        self, operation: Operation, given: dict[str, Any]
    ) -> VariableValues | list[GraphQLError]:
        definitions = operation.node.variable_definitions
        if not definitions:
            return _NO_VARIABLES
        return coerce_variables(self._schema.graphql, definitions, given)

    async def _shielded(self, mutation: Coroutine[Any, Any, ExecutionResult]) -> ExecutionResult:
        """Run a mutation to its end, even if the client disconnects in the middle."""
        task = asyncio.create_task(mutation)
        self._mutations.add(task)  # the event loop itself keeps no strong reference to a task
        task.add_done_callback(self._mutations.discard)
        return await asyncio.shield(task)

    async def _mutate(self, prepared: PreparedRequest, context: RequestContext) -> ExecutionResult:
        result: Any = JsonFragmentExecutor.of(self._schema.graphql, prepared, context).execute_operation()
        executed: ExecutionResult = await result if isinstance(result, Awaitable) else result
        return executed

    async def _subscribe(self, prepared: PreparedRequest, context: RequestContext) -> Any:
        """Return the stream of a subscription's results. Raises RequestError if it cannot start."""
        stream = subscribe(**self._execute_arguments(prepared, context))
        if isinstance(stream, Awaitable):
            stream = await stream
        if isinstance(stream, ExecutionResult):
            raise RequestError(_execution_errors(stream, prepared.document))
        return stream

    def _execute_arguments(self, prepared: PreparedRequest, context: RequestContext) -> dict[str, Any]:
        """Return the arguments for graphql-core's `subscribe`."""
        return {
            "schema": self._schema.graphql,
            "document": prepared.document.single(prepared.operation),
            "context_value": context,
            "variable_values": prepared.request.variables,
            "hide_suggestions": True,
            "executor_class": JsonFragmentExecutor,
        }


def _extensions(prepared: PreparedRequest, price: int, read_context: ReadContext) -> dict[str, Any]:
    """Return `extensions` with the price, if the request asks for it; else nothing."""
    if not prepared.request.report_price:
        return {}
    return {"extensions": {"price": {"price": price, "budget": read_context.limits.max_price}}}


def _plugin_failures(errors: Sequence[GraphQLError]) -> list[PluginError]:
    """Return the failures of plug-ins among the errors of fields. One that several fields have is returned once."""
    causes = (error.original_error for error in errors)
    return [*{str(cause): cause for cause in causes if isinstance(cause, PluginError)}.values()]


def _error_entries(error: Exception, document: Document) -> ErrorEntries:
    if isinstance(error, RequestError):
        return error.errors
    if isinstance(error, GraphQLError):
        return graphql_error_entries([error], VALIDATION, document)
    return error_entries(error)


def _execution_errors(result: ExecutionResult, document: Document) -> ErrorEntries:
    return graphql_error_entries(result.errors or (), VALIDATION, document)


def _response(result: ExecutionResult, extensions: dict[str, Any], document: Document) -> bytes:
    body: dict[str, Any] = {"data": result.data}
    if result.errors:
        body["errors"] = _execution_errors(result, document)
    return orjson.dumps({**body, **extensions})
