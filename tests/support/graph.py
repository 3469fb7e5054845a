"""Runs GraphQL documents as the server does, without HTTP between: for tests of what a read answers."""

from typing import Any

import orjson
from graphql.execution.values import VariableValues, get_variable_values

from gql_server.api.document_limits import validation_rules
from gql_server.api.schema import Schema, build_schema
from gql_server.db.protocols import Database
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.hooks.host import PluginHost
from gql_server.reads.compiler import CompiledStatement
from gql_server.reads.documents import DocumentCache
from gql_server.reads.executor import QueryResult, ReadExecutor
from gql_server.reads.links import ReadContext, ReadLimits


class GraphClient:
    """Reads of one schema, by any viewer."""

    def __init__(self, db: Database, host: PluginHost, schema: Schema | None = None) -> None:
        self.db, self.host = db, host
        self.schema = schema or build_schema()
        self.documents = DocumentCache(self.schema.graphql, validation_rules(10, 15), max_tokens=1000)
        self.reads = ReadExecutor(self.schema.graphql, self.schema.links)
        self.limits = ReadLimits()

    def context(self, district: District, role: Role = Role.ADMIN, person: str | None = None) -> ReadContext:
        return ReadContext(Viewer(district, role, person), self.db, self.host, self.limits)

    async def answer(
        self,
        context: ReadContext,
        text: str,
        variables: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> QueryResult:
        """Return the result of a query. Raises what refuses all of it; fails on an invalid document."""
        document = self.documents.get(text)
        assert not document.errors, document.errors
        operation = document.operation(name)
        coerced = get_variable_values(
            self.schema.graphql, operation.node.variable_definitions or (), variables or {}
        )
        assert isinstance(coerced, VariableValues), coerced
        return await self.reads.query(document, operation, coerced, context)

    async def query(
        self,
        context: ReadContext,
        text: str,
        variables: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> Any:
        """Return the data of a query. Raises what any of it is refused for."""
        answer = await self.answer(context, text, variables, name)
        if answer.errors:
            raise answer.errors[0].original_error or answer.errors[0]
        assert answer.json is not None
        return orjson.loads(answer.json)["data"]


def compile_document(text: str, role: Role, given: dict[str, Any]) -> CompiledStatement:
    """Return the statement that a document becomes for a role; no database is asked."""
    client = GraphClient(None, None)  # type: ignore[arg-type]
    document = client.documents.get(text)
    operation = document.operation(None)
    schema = client.schema.graphql
    variables = get_variable_values(schema, operation.node.variable_definitions or (), given)
    assert isinstance(variables, VariableValues)
    context = client.context(District(1, "golden", "UTC"), role)
    return client.reads.compile(document, operation, variables, context).statements[()]
