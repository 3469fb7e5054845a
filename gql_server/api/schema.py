"""The schema: Strawberry's types, the links they declare, and the resolvers that read compiled answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    NameNode,
    SelectionSetNode,
    get_named_type,
    is_enum_type,
    is_interface_type,
    is_object_type,
    print_schema,
)
from strawberry.schema.config import StrawberryConfig

from gql_server.api.enums import VALUE_DESCRIPTIONS
from gql_server.api.fields import LINK
from gql_server.api.mutation import Mutation
from gql_server.api.payloads import REF
from gql_server.api.query import Query
from gql_server.api.scalars import SCALARS
from gql_server.api.subscription import Subscription
from gql_server.api.types.people import OptOut
from gql_server.reads.links import AnyLink, Links

_STRAWBERRY_FIELD = "strawberry-definition"
_TYPE_OF = "__typeOf"
# Merged with what is asked of an interface, so that the answer tells graphql-core which type it is.
_ASK_TYPE = FieldNode(
    name=NameNode(value="node"),
    selection_set=SelectionSetNode(
        selections=(FieldNode(alias=NameNode(value=_TYPE_OF), name=NameNode(value="__typename")),)
    ),
)


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
    """Give every field its resolver for when graphql-core executes: mutations, subscriptions, and introspection.

    A link at the top of a query, payload or event is read by one compiled statement for all that is below it; what is
    below finds its value in that answer, by response key.
    """
    mutation, tops = schema.mutation_type, (schema.query_type, schema.subscription_type)
    payloads = {field.type.of_type.name for field in mutation.fields.values()} if mutation else set()
    for named in schema.type_map.values():
        if is_interface_type(named):
            named.resolve_type = _type_of
        elif is_object_type(named):
            named.is_type_of = None  # a row is a plain mapping
    for type_, name, field in _fields(schema):
        if type_ in tops or (type_.name in payloads and (type_.name, name) in links):
            field.resolve = _read_link
        elif type_ is not mutation and type_.name not in payloads and type_.name != "UserError":
            field.resolve = _by_response_key


async def _read_link(source: Any, info: GraphQLResolveInfo[Any], **args: object) -> Any:
    extra = {}
    if info.parent_type not in (info.schema.query_type, info.schema.subscription_type):
        if source.ref is None:
            return None
        extra = {REF: source.ref}
    context = info.context
    nodes = list(info.field_nodes)
    if is_interface_type(get_named_type(info.return_type)):
        nodes.append(_ASK_TYPE)
    return await context.reader.field(
        info.parent_type, nodes, info.fragments, info.variable_values, context.read, extra=extra
    )


def _by_response_key(source: Any, info: GraphQLResolveInfo[Any], **args: object) -> Any:
    return source[info.path.key]


def _type_of(source: Any, info: GraphQLResolveInfo[Any], interface: object) -> str:
    return str(source[_TYPE_OF])
