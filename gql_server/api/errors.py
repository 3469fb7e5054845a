"""Errors in GraphQL responses: a stable code in `extensions`, and a message that reveals nothing internal."""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

import structlog
from graphql import GraphQLError

from gql_server.errors import AnswerTooLarge, GqlServerError, PluginError, Rejected, error_location
from gql_server.reads.documents import Document

log = structlog.get_logger(__name__)

INTERNAL = "INTERNAL"
_MAX_ERRORS = 20
_MAX_CHARACTERS = 400
"""A longer message of graphql-core is cut off."""
_SUGGESTION = re.compile(r"\s*Did you mean .*?\?")
_UNREAD = "The mutation has succeeded; only this field of its payload could not be read."
_READ_INSTEAD = "Do not send the mutation again: read the field with a query."


class PayloadUnread(Exception):
    """A field of the payload of a mutation that has succeeded could not be read. `reason` is the error of the read."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


def error_entries(error: BaseException) -> list[dict[str, Any]]:
    """Return the entries of `errors` for an exception. An unexpected exception is logged and reported as INTERNAL."""
    if isinstance(error, Rejected):
        return [
            {"message": each.message, "extensions": {"code": each.code, "inputPath": each.path}}
            for each in error.errors
        ]
    if isinstance(error, PayloadUnread):
        return [_unread_entry(error.reason, entry) for entry in error_entries(error.reason)]
    if isinstance(error, GqlServerError):
        return [{"message": str(error), "extensions": {"code": error.code}}]
    # The message of an unexpected error may hold data of the request: only its type and location are logged.
    log.error("unexpected_error", error=type(error).__name__, where=error_location(error))
    return [{"message": "Something went wrong here. Try again.", "extensions": {"code": INTERNAL}}]


def _unread_entry(reason: Exception, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a read's error for a payload, where it is not true that nothing was written."""
    own_words = isinstance(reason, PluginError | AnswerTooLarge)
    return {**entry, "message": f"{_UNREAD} {entry['message'] if own_words else _READ_INSTEAD}"}


def _truncated(message: str) -> str:
    return message if len(message) <= _MAX_CHARACTERS else f"{message[:_MAX_CHARACTERS]}…"


def graphql_error_entries(
    errors: Iterable[GraphQLError], code: str, document: Document | None = None
) -> list[dict[str, Any]]:
    """Return the entries of `errors` for GraphQL errors, with their places in the document as the client sent it.

    An error that was caused by an exception has the code of that exception; all others have `code`.
    """
    all_entries: list[dict[str, Any]] = []
    told = list(islice(errors, _MAX_ERRORS))  # no more, because each may become a line in the log
    places = document.locations(told) if document else [error.locations or () for error in told]
    for error, locations in zip(told, places, strict=True):
        cause = error.original_error
        if cause is not None and not isinstance(cause, GraphQLError):
            entries = error_entries(cause)
        else:
            # The message may quote a name or value that is as long as the request. It is truncated first, so that
            # neither the response nor the search for suggestions grows with it.
            message = _SUGGESTION.sub("", _truncated(error.message))
            entries = [{"message": message, "extensions": {"code": code}}]
        for entry in entries:
            if locations:
                entry["locations"] = [{"line": at.line, "column": at.column} for at in locations]
            if error.path:
                entry["path"] = error.path
        all_entries.extend(entries)
    return all_entries[:_MAX_ERRORS]
