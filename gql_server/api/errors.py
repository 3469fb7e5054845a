"""Errors as GraphQL answers: a stable code in `extensions`, and words without anything that is not the caller's."""

import re
from collections.abc import Iterable
from typing import Any

import structlog
from graphql import GraphQLError

from gql_server.errors import GqlServerError, Rejected, place

log = structlog.get_logger(__name__)

INTERNAL = "INTERNAL"
_MAX_ERRORS = 20
_SUGGESTION = re.compile(r"\s*Did you mean .*?\?")


def error_answers(error: BaseException) -> list[dict[str, Any]]:
    """Return the entries of `errors` for an exception; one that is not ours is logged, and told as INTERNAL."""
    if isinstance(error, Rejected):
        return [
            {"message": each.message, "extensions": {"code": each.code, "inputPath": each.path}}
            for each in error.errors
        ]
    if isinstance(error, GqlServerError):
        return [{"message": str(error), "extensions": {"code": error.code}}]
    # The words of an unexpected error may hold data of the request: only its type and place are logged.
    log.error("unexpected_error", error=type(error).__name__, where=place(error))
    return [{"message": "Something went wrong here. Try again.", "extensions": {"code": INTERNAL}}]


def graphql_error_answers(errors: Iterable[GraphQLError], code: str) -> list[dict[str, Any]]:
    """Return the entries of `errors` for what graphql-core found; `code` is for those not caused by an exception."""
    answers: list[dict[str, Any]] = []
    for error in errors:
        cause = error.original_error
        if cause is not None and not isinstance(cause, GraphQLError):
            entries = error_answers(cause)
        else:
            message = _SUGGESTION.sub("", error.message)
            entries = [{"message": message, "extensions": {"code": code}}]
        for entry in entries:
            if error.locations:
                entry["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
            if error.path:
                entry["path"] = error.path
        answers.extend(entries)
    return answers[:_MAX_ERRORS]
