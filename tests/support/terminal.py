"""Runs `gql-server` on a terminal of its own, as somebody who sits at it: a pseudo-terminal of 80 columns."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from tests.support.command import COMMAND, environment

COLUMNS = 80
_IDLE = 20
"""In how many hundredths of a second in turn a command must be found idle."""
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
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    ) as process:  # fmt: skip
        os.close(terminal)
        try:
            text = _talk(screen, dict(answers or {}), psutil.Process(process.pid))
            return Shown(text, process.wait(_SECONDS))
        finally:
            process.kill()
            os.close(screen)


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
            _wait_until_it_waits(command)
            os.write(screen, answers.pop(words))
    raise AssertionError(f"The command hangs: {_plain(shown)}")


def _wait_until_it_waits(command: psutil.Process) -> None:
    """Wait until the command has done nothing for a while: on a loaded machine it rests for a moment, too."""
    idle = 0
    while idle < _IDLE:
        time.sleep(0.01)
        idle = 0 if command.status() == psutil.STATUS_RUNNING else idle + 1


def _plain(shown: bytes) -> str:
    return _CONTROLS.sub("", shown.decode(errors="replace"))
