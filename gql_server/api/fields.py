"""How a type says where a field comes from: a column of its row, or a link to other rows."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import strawberry

from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.limits import GLOBAL_ID
from gql_server.domain.viewer import Role
from gql_server.reads.links import AnyLink, Args, Params, ReadContext

LINK = "link"
"""The key of a field's link in its metadata."""

ADMIN = frozenset({Role.ADMIN})


def column(description: str) -> Any:
    """A field that is the column of its name."""
    return strawberry.field(description=description)


def joined(link: AnyLink, description: str) -> Any:
    """A field without arguments that is made of linked rows."""
    return strawberry.field(description=description, metadata={LINK: link})


def linked(link: AnyLink) -> Callable[[Callable[..., Any]], Any]:
    """Make a field of a function's signature and docstring; the function is never called, the link answers."""

    def decorate(function: Callable[..., Any]) -> Any:
        return strawberry.field(
            resolver=function, description=inspect.getdoc(function), metadata={LINK: link}
        )

    return decorate


def mutation(function: Callable[..., Any]) -> Any:
    """Make a mutation of a resolver; its docstring describes it."""
    return strawberry.field(resolver=function, description=inspect.getdoc(function))


def id_param(kind: IdKind, argument: str = "id") -> Params:
    """Return the params of a link that finds rows by a global id: `:id` is null for an id that finds nothing.

    They raise InvalidArgument for one that is too long to be an id.
    """

    def params(args: Args, context: ReadContext) -> dict[str, object]:
        return {"id": parse_id(kind, GLOBAL_ID.require_search_length(str(args[argument]), argument))}

    return params


Id: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="The global id.")]
First: TypeAlias = Annotated[int, strawberry.argument(description="How many to give at most.")]
OptionalFirst: TypeAlias = Annotated[int | None, strawberry.argument(description="How many to give at most.")]
After: TypeAlias = Annotated[
    str | None,
    strawberry.argument(description="The `endCursor` of the page before; without it the first page."),
]
