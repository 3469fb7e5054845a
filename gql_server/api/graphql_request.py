"""GraphQL requests, as they arrive over HTTP or a WebSocket, and the errors that prevent their execution."""

from dataclasses import dataclass
from typing import Any

import orjson
from graphql import OperationType
from graphql.execution.values import VariableValues

from gql_server.reads.documents import Document, Operation

VALIDATION = "GRAPHQL_VALIDATION_FAILED"
BAD_REQUEST = "BAD_REQUEST"

ErrorEntries = list[dict[str, Any]]
"""The entries of `errors` in a response."""


class RequestError(Exception):
    """A request cannot be executed, or the stream of a subscription cannot go on."""

    def __init__(self, errors: ErrorEntries) -> None:
        super().__init__("; ".join(str(error["message"]) for error in errors))
        self.errors = errors

    @property
    def response(self) -> bytes:
        """The GraphQL response that reports it, as JSON."""
        return orjson.dumps({"errors": self.errors})


class MalformedRequest(Exception):
    """The JSON that was sent is not a GraphQL request. The message says what is expected."""


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """A GraphQL request. `report_price` tells whether the response shall state its price (`extensions.price`)."""

    query: str
    variables: dict[str, Any]
    operation_name: str | None
    report_price: bool = False


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request whose document and variables are valid, with the operation that it selects."""

    request: GraphQLRequest
    document: Document
    operation: Operation
    variables: VariableValues

    @property
    def is_subscription(self) -> bool:
        return self.operation.node.operation is OperationType.SUBSCRIPTION


def parse_request(body: object) -> GraphQLRequest:
    """Return the request in a JSON value. Raises MalformedRequest."""
    if not isinstance(body, dict):
        raise MalformedRequest("The body must be a JSON object with `query`.")
    query, variables, name = body.get("query"), body.get("variables"), body.get("operationName")
    extensions = body.get("extensions")
    if not isinstance(query, str) or not query:
        raise MalformedRequest("`query` must be the text of a GraphQL document.")
    if not (variables is None or isinstance(variables, dict)):
        raise MalformedRequest("`variables` must be an object.")
    if not (name is None or isinstance(name, str)):
        raise MalformedRequest("`operationName` must be a string.")
    if not (extensions is None or isinstance(extensions, dict)):
        raise MalformedRequest("`extensions` must be an object.")
    return GraphQLRequest(query, variables or {}, name, (extensions or {}).get("price") is True)
