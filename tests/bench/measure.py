"""What the benchmarks measure with: contestants in turns, seconds, processor time, WAL, and the table of results.

Everything that is compared runs on the same machine in the same minutes: in each round every contestant has one turn,
so that a machine whose speed drifts drifts for all. Results are medians of the rounds.
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gql_server.db.protocols import Connection

ROUNDS = 5
_TICKS = os.sysconf("SC_CLK_TCK")
_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a contestant.

    cpu: milliseconds of processor time by the name of the processes. work: how many things were done, for ratios of
    rates; 1 where a turn is one thing.
    """

    seconds: float
    cpu: Mapping[str, float]
    work: float = 1.0


@dataclass(slots=True)
class Results:
    """The turns of each contestant, in the order in which they were given."""

    turns: dict[str, list[Turn]] = field(default_factory=dict)

    def seconds(self, name: str) -> float:
        """Return the median of the seconds that one thing took."""
        return statistics.median(turn.seconds / turn.work for turn in self.turns[name])

    def rate(self, name: str) -> float:
        """Return the median of the things done in a second."""
        return statistics.median(turn.work / turn.seconds for turn in self.turns[name])

    def cpu(self, name: str, processes: str) -> float:
        """Return the median of the milliseconds of processor time that one thing took."""
        return statistics.median(turn.cpu[processes] / turn.work for turn in self.turns[name])


def processor_milliseconds(root: int) -> float:
    """Return the processor time that a process, its children and theirs have taken, those that have ended included."""
    stats = dict(filter(None, map(_stat, Path("/proc").glob("[0-9]*"))))
    tree, ticks = {root}, 0
    for pid in sorted(stats, key=lambda pid: stats[pid][2]):  # parents are older than their children
        parent, used, _ = stats[pid]
        if pid == root or parent in tree:
            tree.add(pid)
            ticks += used
    return ticks * 1000 / _TICKS


def _stat(folder: Path) -> tuple[int, tuple[int, int, int]] | None:
    """Return a process's id, and its parent, ticks (with those of ended children) and time of start."""
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(folder.name), (int(fields[1]), sum(map(int, fields[11:15])), int(fields[19]))


async def postmaster(conn: Connection) -> int:
    """Return the process id of the PostgreSQL server, on this machine, that a connection leads to."""
    backend = await conn.fetchval("select pg_backend_pid()")
    stat = _stat(Path("/proc") / str(backend))
    if stat is None:
        raise RuntimeError("PostgreSQL does not run on this machine: its processor time cannot be read.")
    return stat[1][0]


async def wal_bytes(conn: Connection) -> int:
    """Return how much WAL PostgreSQL has written so far. The difference of two calls is what was written between."""
    return int(await conn.fetchval("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


async def take_turns(
    contestants: Mapping[str, Callable[[], Awaitable[object]]],
    *,
    rounds: int = ROUNDS,
    processes: Mapping[str, int] | None = None,
    before: Callable[[], Awaitable[object]] | None = None,
) -> Results:
    """Give every contestant a turn in each round, and show the progress on stderr.

    A contestant that returns a number says how many things it did. processes: root process ids, by the names under
    which their processor time is kept. before: run before each turn and not measured.
    """
    results = Results({name: [] for name in contestants})
    roots = processes or {}
    for number in range(1, rounds + 1):
        for name, run in contestants.items():
            show(f"round {number} of {rounds}: {name}")
            if before is not None:
                await before()
            cpu_before = {each: processor_milliseconds(pid) for each, pid in roots.items()}
            start = time.perf_counter()
            work = await run()
            seconds = time.perf_counter() - start
            cpu = {each: processor_milliseconds(pid) - cpu_before[each] for each, pid in roots.items()}
            done = float(work) if isinstance(work, int | float) and not isinstance(work, bool) else 1.0
            results.turns[name].append(Turn(seconds, cpu, done))
    show("")
    return results


def statements(script: str) -> list[str]:
    """Return the statements of a script without semicolons in its texts."""
    return list(filter(str.strip, script.split(";")))


def show(message: str) -> None:
    """Show a line on stderr in place of the last one, if somebody looks on."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{message[: _WIDTH - 1]}")
        sys.stderr.flush()


def versions(*packages: str) -> str:
    """Return one line with the versions of Python, Node where it is installed, and the packages named."""
    parts = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    if node := shutil.which("node"):
        parts.append(
            "Node "
            + subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()
        )
    return ", ".join(parts)


def results_table(title: str, *headings: str) -> Table:
    """Return an empty table for results: its first column for names, the others for numbers."""
    heading = f"{title}, {date.today()}"
    table = Table(
        title=heading, title_justify="left", min_width=min(len(heading), _WIDTH), box=None, pad_edge=False
    )
    for number, heading in enumerate(("", *headings)):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    return table


def print_tables(tables: Sequence[Table | str]) -> None:
    """Print tables and lines on 80 columns, in a file too."""
    console = Console(width=_WIDTH, highlight=False)
    for each in tables:
        console.print(each)
