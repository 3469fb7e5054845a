"""The graph, said once more and naively: resolvers over lists of rows, executed by graphql-core.

Written from the rules of the domain and the descriptions in the schema, not from the compiled reads, so that each
can be held against the other.
"""

import re
from datetime import datetime
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    execute_sync,
)

from gql_server.api.schema import build_schema
from gql_server.domain.viewer import Role
from gql_server.errors import Forbidden
from tests.support.naive_fields import RESOLVERS
from tests.support.naive_rules import Eyes

_ADMIN_ONLY = {"batchModes", "plugins", "batchOptions", "batchRun", "batchRuns", "savedFilters"}


def naive_schema() -> GraphQLSchema:
    """Return the product's schema with the resolvers of this module."""
    schema = build_schema().graphql
    unknown = [f"{t}.{f}" for t, f in RESOLVERS if f not in getattr(schema.type_map.get(t), "fields", ())]
    assert not unknown, f"the schema has no {unknown}"
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLInterfaceType):
            type_.resolve_type = lambda row, info, interface: row["__type"]
        elif isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            type_.is_type_of = None
            for field in type_.fields.values():
                field.resolve = _resolve
    return schema


def run_naively(
    schema: GraphQLSchema, document: DocumentNode, variables: dict[str, Any], eyes: Eyes
) -> ExecutionResult:
    """Execute a document as graphql-core does, on the rows that the eyes see."""
    return execute_sync(schema, document, context_value=eyes, variable_values=variables)


def _resolve(row: Any, info: GraphQLResolveInfo[Any], **args: Any) -> Any:
    type_, name = info.parent_type.name, info.field_name
    eyes: Eyes = info.context
    if type_ == "Query" and name in _ADMIN_ONLY and eyes.viewer.role is not Role.ADMIN:
        raise Forbidden(name)
    resolver = RESOLVERS.get((type_, name))
    return _shown(resolver(eyes, row, **args) if resolver else row[_column(name)])


def _column(name: str) -> str:
    return re.sub("([A-Z])", r"_\1", name).lower()


def _shown(value: Any) -> Any:
    """Return a moment or a day as PostgreSQL writes it in JSON."""
    if isinstance(value, datetime):
        return re.sub(r"(\.\d*?)0+\+", r"\1+", value.isoformat()).replace(".+", "+")
    return value.isoformat() if hasattr(value, "isoformat") else value
