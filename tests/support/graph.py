"""Runs GraphQL documents as the server does, without HTTP between: for tests of what a read answers."""

from typing import Any

import orjson
from graphql.execution.values import VariableValues, get_variable_values

from gql_server.api.limits import validation_rules
from gql_server.api.schema import Schema, build_schema
from gql_server.db.protocols import Database
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import DocumentCache
from gql_server.reads.links import ReadContext
from gql_server.reads.reader import Reader


class GraphClient:
    """Reads of one schema, by any viewer."""

    def __init__(self, db: Database, host: PluginHost, schema: Schema | None = None) -> None:
        self.db, self.host = db, host
        self.schema = schema or build_schema()
        self.documents = DocumentCache(self.schema.graphql, validation_rules(10, 15), max_tokens=1000)
        self.reader = Reader(self.schema.graphql, self.schema.links)

    def context(self, district: District, role: Role = Role.ADMIN, person: str | None = None) -> ReadContext:
        return ReadContext(Viewer(district, role, person), self.db, self.host, 100)

    async def query(
        self,
        context: ReadContext,
        text: str,
        variables: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> Any:
        """Return the data of a query. Raises what the reader raises; fails on an invalid document."""
        document = self.documents.get(text)
        assert not document.errors, document.errors
        operation = document.operation(name)
        coerced = get_variable_values(
            self.schema.graphql, operation.node.variable_definitions or (), variables or {}
        )
        assert isinstance(coerced, VariableValues), coerced
        answer = await self.reader.query(document, operation, coerced, context)
        return orjson.loads(answer)["data"]
