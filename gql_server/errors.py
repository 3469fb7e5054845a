"""The errors of the product. Each has a stable code and a message that says what to do."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserError:
    """An error that the caller can correct. `path` leads to the faulty input, such as ("cells", "2", "reason")."""

    code: str
    message: str
    path: tuple[str, ...] | None = None


class GqlServerError(Exception):
    """Base of all errors of this product. `code` is stable; the message is for people."""

    code = "ERROR"


class Rejected(GqlServerError):
    """A request was rejected and nothing was written. `errors` has one UserError for each thing to correct."""

    code = "REJECTED"

    def __init__(self, errors: Sequence[UserError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = tuple(errors)


def rejected(code: str, message: str, *path: str) -> Rejected:
    """Return a `Rejected` with a single error."""
    return Rejected([UserError(code, message, path or None)])


class Unauthenticated(GqlServerError):
    """The request has no token, or an invalid one. The HTTP status is 401."""

    code = "UNAUTHENTICATED"


class Forbidden(GqlServerError):
    """The viewer's role may not do this."""

    code = "FORBIDDEN"


class InvalidArgument(GqlServerError):
    """An argument of a query is invalid, such as a cursor that no answer contained."""

    code = "INVALID_ARGUMENT"


class Unavailable(GqlServerError):
    """The database cannot be reached now. The client may send the same request again."""

    code = "UNAVAILABLE"


class Busy(Unavailable):
    """Too many requests run at once, or another write holds a needed lock. The client may send the request again."""

    code = "BUSY"


class TimedOut(GqlServerError):
    """The work took longer than its limit and was stopped. Nothing was written."""

    code = "TIMEOUT"


class TooExpensive(GqlServerError):
    """The estimated price of a query exceeds the viewer's limit. No statement was compiled or executed."""

    code = "QUERY_TOO_EXPENSIVE"


class AnswerTooLarge(GqlServerError):
    """An answer, or a list in it that has no `first`, is larger than its limit. Nothing of it is sent."""

    code = "ANSWER_TOO_LARGE"


class AnswerMismatch(GqlServerError):
    """The database returned the result of another statement. The connection is closed and nothing is sent.

    `district` (a code) and `role` belong to the viewer who asked.
    """

    code = "UNAVAILABLE"

    def __init__(self, district: str, role: str) -> None:
        super().__init__("The database returned the result of another query. Try again.")
        self.district, self.role = district, role


class ConfigurationError(GqlServerError):
    """The server or a command cannot start: there is no signing key, or the database is not migrated."""

    code = "CONFIGURATION"


class NewerSchema(ConfigurationError):
    """A newer version of the product has migrated the database."""


class PluginError(GqlServerError):
    """A plug-in cannot be loaded, or one of its hooks failed. The message names the plug-in."""

    code = "PLUGIN"

    def __init__(self, plugin: str, problem: str) -> None:
        super().__init__(f"Plug-in {plugin!r}: {problem}")
        self.plugin, self.problem = plugin, problem

    def with_details(self, more: str) -> "PluginError":
        """Return the same error with a longer message."""
        return PluginError(self.plugin, f"{self.problem}{more}")


class ImportFailed(GqlServerError):
    """An import found invalid input and wrote nothing. The message names the file, and the line if it is known."""

    code = "IMPORT"

    def __init__(self, file: str, line: int | None, problem: str) -> None:
        where = file if line is None else f"{file}:{line}"
        super().__init__(f"{where}: {problem}")
        self.file, self.line, self.problem = file, line, problem


_NOT_PLUGINS = frozenset({"gql_server", "asyncio", "asyncpg", "contextlib", "pluggy"})


def error_location_in_plugin(error: BaseException) -> str:
    """Return the innermost file and line of the plug-in in an error's traceback, or else the error's own location."""
    plugin_file, innermost, trace = None, None, error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        package = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if plugin_file is None and package not in _NOT_PLUGINS:
            plugin_file = file
        if file == plugin_file:
            innermost = trace
        trace = trace.tb_next
    return f"{plugin_file}:{innermost.tb_lineno}" if innermost else error_location(error)


def error_location(error: BaseException) -> str:
    """Return the file and line where an error was raised. A log may hold these; the message may hold data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
