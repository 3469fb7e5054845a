"""What requests cost the PostgreSQL processes that serve them, as Linux counts it: memory at its peak, and CPU.

PostgreSQL must run on this machine. Memory is what a process has for itself (anonymous memory): buffers that all share
are not counted.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

MIB = 1024 * 1024
_TICK = 0.005
_STOP_AT = 700 * MIB
"""A backend that takes more is stopped: it is known by then to be far too costly, and the machine is needed."""


def available() -> bool:
    """Tell whether this system counts what is asked for here."""
    return Path("/proc/self/clear_refs").exists() and Path("/proc/self/schedstat").exists()


def memory(pid: int) -> dict[str, int]:
    """Return the entries of a process' status that are sizes, in bytes; empty where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {
        name: int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in lines)
        if value.endswith("kB")
    }


def cpu_seconds(pid: int) -> float:
    """Return how long a process has computed; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="utf-8").split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


@dataclass(slots=True)
class Cost:
    """What something cost all backends together. stopped: whether one was stopped for its memory."""

    bytes: int = 0
    seconds: float = 0.0
    stopped: bool = False


@dataclass(slots=True)
class Backends:
    """The backends that serve one database, but for the one that watches them.

    warm: gives every backend what any first statement gives it. Costs are told above that.
    """

    conn: "asyncpg.Connection[asyncpg.Record]"
    warm: Callable[[], Awaitable[None]]
    rest: int = field(default=0, init=False)

    async def pids(self) -> list[int]:
        rows = await self.conn.fetch(
            "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and application_name like 'gql-server%'"
        )
        return [row["pid"] for row in rows]

    async def renew(self) -> None:
        """Replace all backends by fresh ones that have served one small request."""
        for pid in await self.pids():
            await self.conn.execute("select pg_terminate_backend($1, 1000)", pid)
        for _ in range(50):
            await self.warm()
            if pids := await self.pids():
                break
            await asyncio.sleep(0.02)
        self.rest = max(memory(pid).get("RssAnon", 0) for pid in pids)

    async def rested(self, slack: int = 4 * MIB) -> bool:
        """Tell whether no backend keeps more than it began with, but for `slack`."""
        return all(memory(pid).get("RssAnon", 0) <= self.rest + slack for pid in await self.pids())

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[Cost]:
        """Measure what the block costs. The cost is there when it has ended."""
        cost = Cost()
        before = {pid: cpu_seconds(pid) for pid in await self.pids()}
        resting = {pid: memory(pid).get("RssAnon", 0) for pid in before}
        for pid in before:
            _reset_peak(pid)
        peaks = dict(resting)
        watching = asyncio.create_task(_watch(peaks, cost))
        try:
            yield cost
        finally:
            watching.cancel()
            after = await self.pids()
            for pid in after:
                peaks[pid] = max(peaks.get(pid, 0), _peak(pid))
            cost.bytes = sum(max(0, peak - resting.get(pid, self.rest)) for pid, peak in peaks.items())
            cost.seconds = sum(cpu_seconds(pid) - before.get(pid, 0.0) for pid in after)


def _reset_peak(pid: int) -> None:
    with contextlib.suppress(
        OSError
    ):  # it has ended, or is another user's: the peak is of its whole life then
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="utf-8")


def _peak(pid: int) -> int:
    """Return the most anonymous memory since the peak was reset, but for what of it was shared at the end."""
    now = memory(pid)
    shared = now.get("RssShmem", 0) + now.get("RssFile", 0)
    return max(now.get("RssAnon", 0), now.get("VmHWM", 0) - shared)


async def _watch(peaks: dict[int, int], cost: Cost) -> None:
    """Look at the memory again and again, and stop what takes far too much."""
    while True:
        await asyncio.sleep(_TICK)
        for pid in list(peaks):
            used = memory(pid).get("RssAnon", 0)
            peaks[pid] = max(peaks[pid], used)
            if used > _STOP_AT and not cost.stopped:
                cost.stopped = True
                os.kill(pid, signal.SIGTERM)
