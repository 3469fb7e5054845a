"""Errors as GraphQL answers: a stable code in `extensions`, and words without anything that is not the caller's."""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

import structlog
from graphql import GraphQLError

from gql_server.errors import GqlServerError, Rejected, error_location

log = structlog.get_logger(__name__)

INTERNAL = "INTERNAL"
_MAX_ERRORS = 20
_MAX_CHARACTERS = 400
"""Length of the longest message that graphql-core made."""
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
    log.error("unexpected_error", error=type(error).__name__, where=error_location(error))
    return [{"message": "Something went wrong here. Try again.", "extensions": {"code": INTERNAL}}]


def _cut(message: str) -> str:
    return message if len(message) <= _MAX_CHARACTERS else f"{message[:_MAX_CHARACTERS]}…"


def graphql_error_answers(errors: Iterable[GraphQLError], code: str) -> list[dict[str, Any]]:
    """Return the entries of `errors` for what graphql-core found; `code` is for those not caused by an exception."""
    answers: list[dict[str, Any]] = []
    for error in islice(errors, _MAX_ERRORS):  # no more are looked at: each may be a line in the log
        cause = error.original_error
        if cause is not None and not isinstance(cause, GraphQLError):
            entries = error_answers(cause)
        else:
            # A name or value of the request may be in it, as long as the request: it is cut first, so that neither the
            # answer nor the search for suggestions grows with it.
            message = _SUGGESTION.sub("", _cut(error.message))
            entries = [{"message": message, "extensions": {"code": code}}]
        for entry in entries:
            if error.locations:
                entry["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
            if error.path:
                entry["path"] = error.path
        answers.extend(entries)
    return answers[:_MAX_ERRORS]
