"""Types that all others use."""

from typing import Generic, TypeVar

import strawberry

from gql_server.api.fields import column

T = TypeVar("T")


@strawberry.interface(description="Anything with an id of its own, to be read again by `node`.")
class Node:
    id: strawberry.ID = column("Global id; opaque.")


@strawberry.type(description="Where a page stands in its connection.")
class PageInfo:
    has_next_page: bool = column("Whether there is more after this page.")
    has_previous_page: bool = column("Whether there is something before this page.")
    start_cursor: str | None = column("Cursor of the first row; null on an empty page.")
    end_cursor: str | None = column("Cursor of the last row, for the next `after`; null on an empty page.")


@strawberry.type(description="A row of a page.")
class Edge(Generic[T]):
    cursor: str = column("Cursor of this row.")
    node: T = column("The row itself.")


@strawberry.type(description="A page of rows.")
class Connection(Generic[T]):
    edges: list[Edge[T]] = column("The rows of the page, in order.")
    page_info: PageInfo = column("Where the page stands.")


@strawberry.type(
    description="What the caller can put right. Never a stack trace, never another district's data."
)
class UserError:
    code: str = column(
        "Stable, for programs: such as UNKNOWN_REASON. gql_server/api/README.md lists them with what to do."
    )
    message: str = column("For people: what to do.")
    path: list[str] | None = column('The way to the input at fault, such as ["cells", "2", "reason"].')
