"""What can go wrong, with a stable code and a sentence that says what to do."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserError:
    """Something the caller can put right. `path` leads to the input at fault, such as ("cells", "2", "reason")."""

    code: str
    message: str
    path: tuple[str, ...] | None = None


class GqlServerError(Exception):
    """Base of all errors of this product. `code` is stable; the message is for people."""

    code = "ERROR"


class Rejected(GqlServerError):
    """A request was refused whole; nothing was written. Carries one `UserError` for each thing to put right."""

    code = "REJECTED"

    def __init__(self, errors: Sequence[UserError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = tuple(errors)


def rejected(code: str, message: str, *path: str) -> Rejected:
    """Return a `Rejected` with the one error given."""
    return Rejected([UserError(code, message, path or None)])


class Unauthenticated(GqlServerError):
    """The request carries no token, or one that does not hold. Answered with 401."""

    code = "UNAUTHENTICATED"


class Forbidden(GqlServerError):
    """The viewer's role may not do this."""

    code = "FORBIDDEN"


class InvalidArgument(GqlServerError):
    """An argument of a query is out of its range, such as a cursor that no answer contained."""

    code = "INVALID_ARGUMENT"


class Unavailable(GqlServerError):
    """The database cannot be reached now. The same request may be sent again."""

    code = "UNAVAILABLE"


class Busy(Unavailable):
    """Too much is being asked for at once, or another write holds what this one needs. It may be sent again."""

    code = "BUSY"


class TimedOut(GqlServerError):
    """The work took longer than its bound and was stopped; nothing of it was written."""

    code = "TIMEOUT"


class TooExpensive(GqlServerError):
    """A query may ask for more objects than its viewer's budget allows. Nothing was compiled or run."""

    code = "QUERY_TOO_EXPENSIVE"


class AnswerTooLarge(GqlServerError):
    """An answer, or a list in it that has no `first`, is larger than its bound. Nothing of it is sent."""

    code = "ANSWER_TOO_LARGE"


class AnswerMismatch(GqlServerError):
    """The database answered something else than what was asked: its connection is dropped, nothing of it is sent.

    `district` (its code) and `role` are those of the viewer who asked.
    """

    code = "UNAVAILABLE"

    def __init__(self, district: str, role: str) -> None:
        super().__init__("The database answered something else than what was asked. Try again.")
        self.district, self.role = district, role


class ConfigurationError(GqlServerError):
    """The server cannot start as it is set up: no signing key, a database that is not migrated."""

    code = "CONFIGURATION"


class NewerSchema(ConfigurationError):
    """The database was migrated by a newer version than this."""


class PluginError(GqlServerError):
    """A plug-in cannot be loaded, or broke a rule of its hooks. Names the plug-in."""

    code = "PLUGIN"

    def __init__(self, plugin: str, problem: str) -> None:
        super().__init__(f"Plug-in {plugin!r}: {problem}")
        self.plugin, self.problem = plugin, problem

    def with_details(self, more: str) -> "PluginError":
        """Return the same error with more words."""
        return PluginError(self.plugin, f"{self.problem}{more}")


class ImportFailed(GqlServerError):
    """An import found input that it cannot take. Nothing was written. Names the file, and the line where known."""

    code = "IMPORT"

    def __init__(self, file: str, line: int | None, problem: str) -> None:
        where = file if line is None else f"{file}:{line}"
        super().__init__(f"{where}: {problem}")
        self.file, self.line, self.problem = file, line, problem


_SERVERS = frozenset({"gql_server", "asyncio", "asyncpg", "contextlib", "pluggy"})


def error_location_in_plugin(error: BaseException) -> str:
    """Return the deepest file and line of a plug-in's own that an error came through; else where it comes from."""
    own, found, trace = None, None, error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if own is None and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _SERVERS:
            own = file
        if file == own:
            found = trace
        trace = trace.tb_next
    return f"{own}:{found.tb_lineno}" if found else error_location(error)


def error_location(error: BaseException) -> str:
    """Return the file and line that an error comes from: what a log may hold, where its words may be data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
