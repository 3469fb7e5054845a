"""Shared by the commands: printing, the choice of the database, the event loop, and signals."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from gql_server.db.embedded import embedded_postgres
from gql_server.settings import Settings

T = TypeVar("T")

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def print_error(message: str) -> None:
    """Print an error as one line."""
    stderr.print("Error:", style="bold red", end=" ")
    stderr.print(" ".join(message.split()), markup=False, soft_wrap=True)


def print_warning(message: str) -> None:
    """Print a warning as one line: the command goes on."""
    stderr.print("Warning:", style="bold yellow", end=" ")
    stderr.print(" ".join(message.split()), markup=False, soft_wrap=True)


def print_line(message: str) -> None:
    """Print a line without wrapping it, however narrow the terminal is."""
    stdout.print(message, markup=False, soft_wrap=True)


def print_text(text: str) -> None:
    """Print sentences, wrapped at the width of the terminal."""
    stdout.print(Text(text))


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Give the DSN of the configured database, or run the embedded PostgreSQL during the block."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
    else:
        with embedded_postgres(settings.data_dir) as dsn:
            yield dsn


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, on uvloop except on Windows."""
    try:
        if sys.platform == "win32":
            return asyncio.run(work)
        import uvloop

        return uvloop.run(work)
    finally:
        work.close()  # a signal may arrive before the coroutine was started


def _exit(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def exit_on_signals() -> None:
    """Raise SystemExit on SIGTERM and SIGHUP, so that context managers stop an embedded server."""
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, _exit)
