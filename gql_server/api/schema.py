"""The schema: Strawberry's types, the links that they declare, and the resolvers that run compiled reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import strawberry
from graphql import (
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    is_enum_type,
    is_input_object_type,
    is_object_type,
    print_schema,
)
from strawberry.schema.config import StrawberryConfig

from gql_server.api.arguments import STRAWBERRY, mutation_resolver
from gql_server.api.context import RequestContext
from gql_server.api.enums import VALUE_DESCRIPTIONS
from gql_server.api.errors import PayloadUnread
from gql_server.api.fields import LINK, REF
from gql_server.api.mutation import Mutation
from gql_server.api.query import Query
from gql_server.api.scalars import SCALARS
from gql_server.api.subscription import Subscription
from gql_server.api.types.people import OptOut
from gql_server.reads.links import Args, Link, Links
from gql_server.services.rules.redact import log_plugin_failures


@dataclass(frozen=True, slots=True)
class Schema:
    """The GraphQL schema, and the links of its fields."""

    graphql: GraphQLSchema
    links: Links


def build_schema() -> Schema:
    """Build a new schema."""
    built = strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[OptOut],
        config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=True),
    )
    schema = built._schema
    _fix_is_one_of(schema)
    for name, values in VALUE_DESCRIPTIONS.items():
        enum = schema.type_map[name]
        assert is_enum_type(enum)
        for value, description in values.items():
            enum.values[value].description = description
    links = {(type_.name, name): link for type_, name, _, link in _linked_fields(schema)}
    _read_through_links(schema, links)
    for field in schema.mutation_type.fields.values() if schema.mutation_type else ():
        field.resolve = mutation_resolver(field)
    return Schema(schema, links)


def print_sdl() -> str:
    """Return the schema in the schema definition language, which is the content of `schema.graphql`."""
    return print_schema(build_schema().graphql) + "\n"


def _fix_is_one_of(schema: GraphQLSchema) -> None:
    """Resolve `isOneOf` as graphql-core does. Strawberry's resolver fails for lists and non-null types."""
    of_types = schema.type_map["__Type"]
    assert is_object_type(of_types)
    of_types.fields["isOneOf"].resolve = lambda type_, info: (
        type_.is_one_of if is_input_object_type(type_) else None
    )


def _fields(schema: GraphQLSchema) -> Iterator[tuple[GraphQLObjectType, str, GraphQLField]]:
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            for name, field in type_.fields.items():
                yield type_, name, field


def _linked_fields(
    schema: GraphQLSchema,
) -> Iterator[tuple[GraphQLObjectType, str, GraphQLField, Link]]:
    for type_, name, field in _fields(schema):
        definition = field.extensions.get(STRAWBERRY)
        if definition is not None and LINK in definition.metadata:
            yield type_, name, field, definition.metadata[LINK]


def _read_through_links(schema: GraphQLSchema, links: Links) -> None:
    """Set the resolvers of the fields with links in payloads and events.

    Each such field is read by one compiled statement, whose JSON includes all fields below it, so graphql-core does
    not execute those (see JsonFragmentExecutor). It does not execute queries either.
    """
    mutation, subscription = schema.mutation_type, schema.subscription_type
    payloads = {field.type.of_type.name for field in mutation.fields.values()} if mutation else set()
    for type_, name, field in _fields(schema):
        if type_ is subscription:
            field.resolve = _resolve_event_field
        elif type_.name in payloads and (type_.name, name) in links:
            field.resolve = _resolve_payload_field


async def _resolve_payload_field(
    source: Any, info: GraphQLResolveInfo[Any], **args: object
) -> orjson.Fragment | None:
    if source.ref is None:
        return None
    try:
        return await _read(info, {REF: source.ref})
    except GraphQLError:
        raise
    except Exception as error:
        raise PayloadUnread(error) from error


async def _resolve_event_field(
    source: Any, info: GraphQLResolveInfo[Any], **args: object
) -> orjson.Fragment | None:
    async with info.context.event_slots:
        return await _read(info, {})


async def _read(info: GraphQLResolveInfo[Any], extra_args: Args) -> orjson.Fragment | None:
    context: RequestContext = info.context
    path = tuple(map(str, info.path.as_list()))
    async with log_plugin_failures(context.read_context.db, context.viewer.district):
        json = await context.reads.read_field(
            context.compiled, path, info.variable_values, context.read_context, extra_args
        )
    return None if json is None else orjson.Fragment(json)
