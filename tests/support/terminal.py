"""Runs `gql-server` on a terminal of its own, as somebody who sits at it: a pseudo-terminal of 80 columns."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from tests.support.command import COMMAND, environment

COLUMNS = 80
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command showed, and its exit code."""

    text: str
    returncode: int

    @property
    def lines(self) -> list[str]:
        """Every line that was written, those of a progress bar among them, without colours."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", self.text)]


def on_terminal(
    *arguments: str, settings: Mapping[str, str], answers: Mapping[str, bytes] | None = None
) -> Shown:
    """Run a command to its end. `answers`: what is typed, once, when these words are shown. Fails after a minute."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    env = {**environment(settings), "TERM": "xterm"}
    del env["COLUMNS"]
    with subprocess.Popen(
        [str(COMMAND), *arguments], env=env, stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True, preexec_fn=_sit_down,  # noqa: PLW1509
    ) as process:  # fmt: skip
        os.close(terminal)
        try:
            text = _talk(screen, dict(answers or {}), psutil.Process(process.pid))
            return Shown(text, process.wait(_SECONDS))
        finally:
            process.kill()
            os.close(screen)


def _sit_down() -> None:
    """Take the terminal, and mind Ctrl+C even where the tests were started in the background, which ignores it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _talk(screen: int, answers: dict[str, bytes], command: psutil.Process) -> str:
    """Return all that is shown until the command closes its terminal.

    What is typed comes only when the command waits for it, as it does from people: Python would notice a Ctrl+C
    between its question and its reading of the answer only with the next key.
    """
    shown = b""
    deadline = time.monotonic() + _SECONDS
    while select.select([screen], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            read = os.read(screen, 65536)
        except OSError:  # Linux says so where others say that nothing is left
            read = b""
        if not read:
            return _plain(shown)
        shown += read
        for words in [words for words in answers if words in _plain(shown)]:
            while command.status() == psutil.STATUS_RUNNING:
                time.sleep(0.01)
            os.write(screen, answers.pop(words))
    raise AssertionError(f"The command hangs: {_plain(shown)}")


def _plain(shown: bytes) -> str:
    return _CONTROLS.sub("", shown.decode(errors="replace"))
