"""What the commands share: where they print, which database they use, how they run and leave."""

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


def complain(message: str) -> None:
    """Print an error as one line."""
    stderr.print("Error:", style="bold red", end=" ")
    stderr.print(" ".join(message.split()), markup=False, soft_wrap=True)


def say(message: str) -> None:
    """Print a line for people, whole, however wide the terminal is."""
    stdout.print(message, markup=False, soft_wrap=True)


def tell(words: str) -> None:
    """Print sentences for people, broken between words where the terminal ends."""
    stdout.print(Text(words))


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Give the DSN of the database: the one named, or the embedded one for the length of the block."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
    else:
        with embedded_postgres(settings.data_dir) as dsn:
            yield dsn


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop where there is one."""
    try:
        if sys.platform == "win32":
            return asyncio.run(work)
        import uvloop

        return uvloop.run(work)
    finally:
        work.close()  # a signal may come before it has begun


def _leave(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def leave_tidily() -> None:
    """Let a SIGTERM or SIGHUP unwind the program, so that an embedded server is stopped and tidied up."""
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, _leave)
