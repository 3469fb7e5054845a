"""Configures the log.

Each event is one line on stderr, in the same format for the server (structlog) and for libraries and plug-ins (the
standard library's logging): readable text on a terminal, JSON elsewhere. No line has a stack trace, because the
messages of exceptions may hold people's data. An exception is logged by its type, file and line.
"""

import logging
import sys
import threading
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gql_server.errors import error_location


def configure_logging(level: str, worker: int | None = None, stream: TextIO = sys.stderr) -> None:
    """Log events of this level and above, from structlog and from the standard library's loggers.

    `worker`: the number that every line tells, if the process is one of several workers.
    """

    def add_worker(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return event if worker is None else {**event, "worker": worker}

    shared: list[Processor] = [
        add_worker,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        _replace_traceback,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _keep_first_line],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer() if stream.isatty() else structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    threading.excepthook = _log_thread_failure


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream. If a message and its arguments do not match, an error line without arguments is written."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):  # the reader of the stream is gone
            return
        message = "This line could not be written: its message and its arguments do not match."
        replacement = logging.LogRecord(
            record.name, logging.ERROR, record.pathname, record.lineno, message, None, None
        )
        self.stream.write(self.format(replacement) + self.terminator)
        self.flush()


def _replace_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace an exception by its type and location."""
    exc_info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        event.setdefault("error", type(error).__name__)
        event.setdefault("where", error_location(error))
    return event


def _keep_first_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Keep only the first line of a library's message: on the others asyncio prints whole objects."""
    event["event"] = str(event["event"]).partition("\n")[0]
    return event


def _log_thread_failure(args: threading.ExceptHookArgs) -> None:
    """Log the exception that ended a thread of a plug-in or a library."""
    error = args.exc_value
    if error is not None and not isinstance(error, SystemExit):
        logging.getLogger(__name__).error(
            "A thread has failed.", exc_info=(type(error), error, error.__traceback__)
        )
