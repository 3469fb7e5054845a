"""The schema: Strawberry's types, the links they declare, and the resolvers that read compiled answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import strawberry
from graphql import (
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

from gql_server.api.context import RequestContext
from gql_server.api.enums import VALUE_DESCRIPTIONS
from gql_server.api.fields import LINK
from gql_server.api.mutation import Mutation
from gql_server.api.payloads import REF
from gql_server.api.query import Query
from gql_server.api.scalars import SCALARS
from gql_server.api.subscription import Subscription
from gql_server.api.types.people import OptOut
from gql_server.reads.links import AnyLink, Args, Links

_STRAWBERRY_FIELD = "strawberry-definition"


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema and the links of its fields."""

    graphql: GraphQLSchema
    links: Links


def build_schema() -> Schema:
    """Build the schema anew."""
    built = strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[OptOut],
        config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=True),
    )
    schema = built._schema
    _mend_is_one_of(schema)
    for name, values in VALUE_DESCRIPTIONS.items():
        enum = schema.type_map[name]
        assert is_enum_type(enum)
        for value, description in values.items():
            enum.values[value].description = description
    links = {(type_.name, name): link for type_, name, _, link in _linked_fields(schema)}
    _read_through_links(schema, links)
    return Schema(schema, links)


def print_sdl() -> str:
    """Return the schema in the schema definition language, as `schema.graphql` holds it."""
    return print_schema(build_schema().graphql) + "\n"


def _mend_is_one_of(schema: GraphQLSchema) -> None:
    """Let `isOneOf` answer as graphql-core does: Strawberry's own resolver fails for lists and non-null types."""
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
) -> Iterator[tuple[GraphQLObjectType, str, GraphQLField, AnyLink]]:
    for type_, name, field in _fields(schema):
        definition = field.extensions.get(_STRAWBERRY_FIELD)
        if definition is not None and LINK in definition.metadata:
            yield type_, name, field, definition.metadata[LINK]


def _read_through_links(schema: GraphQLSchema, links: Links) -> None:
    """Give every field its resolver for when graphql-core executes: mutations, subscriptions and introspection.

    A link at the top of a payload or event is read by one compiled statement, whose JSON is the value of all that is
    below it: see PartExecutor. Nothing below is executed by graphql-core, and nothing of queries.
    """
    mutation, subscription = schema.mutation_type, schema.subscription_type
    payloads = {field.type.of_type.name for field in mutation.fields.values()} if mutation else set()
    for type_, name, field in _fields(schema):
        if type_ is subscription:
            field.resolve = _event
        elif type_.name in payloads and (type_.name, name) in links:
            field.resolve = _payload


async def _payload(source: Any, info: GraphQLResolveInfo[Any], **args: object) -> orjson.Fragment | None:
    return None if source.ref is None else await _read(info, {REF: source.ref})


async def _event(source: Any, info: GraphQLResolveInfo[Any], **args: object) -> orjson.Fragment | None:
    async with info.context.events:
        return await _read(info, {})


async def _read(info: GraphQLResolveInfo[Any], extra: Args) -> orjson.Fragment | None:
    context: RequestContext = info.context
    path = tuple(map(str, info.path.as_list()))
    json = await context.reader.part(context.plan, path, info.variable_values, context.read, extra)
    return None if json is None else orjson.Fragment(json)
