"""Types that other types use: nodes, connections, and errors."""

from typing import Generic, TypeVar

import strawberry

from gql_server.api.fields import column

T = TypeVar("T")


@strawberry.interface(description="An object with a global id, by which the query `node` returns it.")
class Node:
    id: strawberry.ID = column("The global id. Clients must not interpret it.")


@strawberry.type(description="The position of a page in its connection.")
class PageInfo:
    has_next_page: bool = column("Whether there are rows after this page.")
    has_previous_page: bool = column("Whether the page was asked for with `after`.")
    start_cursor: str | None = column("The cursor of the first row; null if the page is empty.")
    end_cursor: str | None = column(
        "The cursor of the last row, for the `after` of the next page; null if the page is empty."
    )


@strawberry.type(description="A row of a page, with its cursor.")
class Edge(Generic[T]):
    cursor: str = column("The cursor of this row.")
    node: T = column("The row.")


@strawberry.type(name="Connection", description="A page of rows.")
class RelayConnection(Generic[T]):
    edges: list[Edge[T]] = column("The rows of the page, in the connection's order.")
    page_info: PageInfo = column("The position of the page.")


@strawberry.type(description="An error in the input of a mutation, which the caller can correct.")
class UserError:
    code: str = column(
        "A stable code for programs, such as UNKNOWN_REASON. gql_server/api/README.md lists all codes, with what to do."
    )
    message: str = column("A sentence for people, which says what to do.")
    path: list[str] | None = column(
        'The path to the wrong part of the input, such as ["cells", "2", "reason"]; null if the error concerns '
        "the whole input."
    )
