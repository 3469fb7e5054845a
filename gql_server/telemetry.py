"""What the server tells about itself: its log.

One line an event on stderr, in one format, whoever tells it: the server by structlog, its libraries and the plug-ins
by the standard library. Lines for people on a terminal, JSON elsewhere. No line holds a stack trace: those print what
exceptions say, which may be about a person; told are an exception's type, and the file and line it comes from.
"""

import logging
import sys
import threading
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gql_server.errors import error_location


def configure_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Log from this level on, what the standard library's loggers are told, too."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        _without_trace,
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
            foreign_pre_chain=[*shared, _one_line],
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
    threading.excepthook = _thread_failed


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream. A call that does not fit its own message is told in one line, without its arguments."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):  # nobody reads the log any more
            return
        words = "This line could not be written: its message and its arguments do not fit."
        told = logging.LogRecord(
            record.name, logging.ERROR, record.pathname, record.lineno, words, None, None
        )
        self.stream.write(self.format(told) + self.terminator)
        self.flush()


def _without_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Tell an exception by its type and place."""
    told = event.pop("exc_info", None)
    event.pop("stack_info", None)
    error = told[1] if isinstance(told, tuple) else sys.exc_info()[1] if told is True else told
    if isinstance(error, BaseException):
        event.setdefault("error", type(error).__name__)
        event.setdefault("where", error_location(error))
    return event


def _one_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Keep the first line of what a library says: on further ones asyncio prints whole objects."""
    event["event"] = str(event["event"]).partition("\n")[0]
    return event


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Log what ended a thread that a plug-in or a library has started."""
    error = args.exc_value
    if error is not None and not isinstance(error, SystemExit):
        logging.getLogger(__name__).error(
            "A thread has failed.", exc_info=(type(error), error, error.__traceback__)
        )
