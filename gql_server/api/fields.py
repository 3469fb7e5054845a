"""Declares where the value of a field comes from: a column of its row, or a link."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import strawberry

from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.limits import GLOBAL_ID
from gql_server.domain.viewer import Role
from gql_server.reads.links import Args, Link, ParamsFunction, ReadContext

LINK = "link"
"""The key of the link in the metadata of a field."""
REF = "ref"
"""The name of the internal id of a payload's object: an attribute of the payload, and an argument of its link."""

ADMIN = frozenset({Role.ADMIN})


def column(description: str) -> Any:
    """Declare a field whose value is the column of its name."""
    return strawberry.field(description=description)


def linked(link: Link, description: str) -> Any:
    """Declare a field without arguments whose value comes from a link."""
    return strawberry.field(description=description, metadata={LINK: link})


def linked_with_arguments(link: Link) -> Callable[[Callable[..., Any]], Any]:
    """Declare a field with arguments whose value comes from a link.

    The decorated function supplies the arguments, the type and, as its docstring, the description. It is never called.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        return strawberry.field(
            resolver=function, description=inspect.getdoc(function), metadata={LINK: link}
        )

    return decorate


def mutation(function: Callable[..., Any]) -> Any:
    """Declare a mutation. The decorated function resolves it, and its docstring is the description."""
    return strawberry.field(resolver=function, description=inspect.getdoc(function))


def id_param(kind: IdKind, argument: str = "id") -> ParamsFunction:
    """Return the params function of a link that finds a row by its global id.

    The parameter `:id` is null if the argument is not an id of this kind. The function raises InvalidArgument if the
    argument is too long to be an id.
    """

    def params(args: Args, context: ReadContext) -> dict[str, object]:
        return {"id": parse_id(kind, GLOBAL_ID.require_search_length(str(args[argument]), argument))}

    return params


_FIRST = (
    "The maximum number of rows to return, from 1 to the limit of the role."
    " Unless set otherwise that is 100, and 1,000 for vendors."
)

Id: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="The global id.")]
First: TypeAlias = Annotated[int, strawberry.argument(description=_FIRST)]
OptionalFirst: TypeAlias = Annotated[
    int | None, strawberry.argument(description=f"{_FIRST} Null means the default of 50.")
]
After: TypeAlias = Annotated[
    str | None,
    strawberry.argument(description="The `endCursor` of the previous page. Null means the first page."),
]
