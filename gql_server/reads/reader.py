"""Runs compiled reads: one statement, whose answer is the JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLObjectType,
    GraphQLSchema,
)
from graphql.execution.values import VariableValues

from gql_server.db.statements import fetchval
from gql_server.domain.sql import Sql
from gql_server.reads.compiler import Compiled, Compiler
from gql_server.reads.documents import Document, Operation, variable_shape
from gql_server.reads.links import Args, Links, ReadContext


class Reader:
    """Compiles and runs the reads of one schema."""

    def __init__(self, schema: GraphQLSchema, links: Links) -> None:
        self._schema, self._links = schema, links

    async def query(
        self, document: Document, operation: Operation, variables: VariableValues, context: ReadContext
    ) -> bytes:
        """Return the whole answer to a query, `{"data": ...}`, as PostgreSQL made it.

        Raises Forbidden, InvalidArgument, Rejected, Unavailable.
        """
        role, shape = context.viewer.role, variable_shape(variables)
        compiled = operation.variants.get((role, shape))
        if compiled is None:
            compiler = Compiler(self._schema, self._links, role, document.fragments, variables)
            query_type = self._schema.query_type
            assert query_type is not None
            compiled = compiler.operation(query_type, operation.node.selection_set)
            operation.keep(role, shape, compiled)
        return await self._run(compiled, variables, context)

    async def field(
        self,
        type_: GraphQLObjectType,
        nodes: Sequence[FieldNode],
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: VariableValues,
        context: ReadContext,
        *,
        extra: Args | None = None,
    ) -> Any:
        """Return the value of one field, by response keys: what a mutation's payload shows of the graph.

        `extra`: arguments beside those in the document.
        """
        link = self._links[type_.name, nodes[0].name.value]
        compiler = Compiler(self._schema, self._links, context.viewer.role, fragments, variables)
        compiled = compiler.field(type_, list(nodes), link, extra or {})
        return orjson.loads(await self._run(compiled, variables, context) or b"null")

    async def _run(self, compiled: Compiled, variables: VariableValues, context: ReadContext) -> bytes:
        viewer = context.viewer
        args: dict[str, object] = {
            "district_id": viewer.district.district_id,
            "today": viewer.district.today(),
            "viewer_source_id": viewer.person_source_id,
        }
        for value in compiled.values:
            own = value.params(value.args(variables), context)
            args.update((f"{value.prefix}__{name}", part) for name, part in own.items())
        sql = Sql(compiled.text)
        if compiled.slots:
            sql = await _fill(sql, compiled, variables, context)
        async with context.db.acquire() as conn:
            answer: bytes = await fetchval(conn, sql, **args)
        return answer


async def _fill(sql: Sql, compiled: Compiled, variables: VariableValues, context: ReadContext) -> Sql:
    fragments: dict[str, Sql] = {}
    for slot in compiled.slots:
        filled = await slot.slots(slot.value.args(variables), context)
        for name, fragment in filled.items():
            fragments[f"{slot.prefix}__{name}"] = Sql(
                fragment.text.replace("{parent}", slot.alias), fragment.args
            )
    return sql.fill(**fragments)
