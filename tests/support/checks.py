"""Plug-ins with one rule in Python, districts for it to be asked about, and runs under it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.domain.batch import Cell
from gql_server.hooks import Candidate, DistrictReader, Rule, hookimpl
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, Batches, cells, working
from tests.support.builder import DistrictBuilder

T = TypeVar("T")
Check = Callable[[Sequence[Candidate], DistrictReader], Awaitable[Sequence[Any]]]


class Odd:
    """A plug-in with one check."""

    def __init__(self, check: Check) -> None:
        self.check = check

    @hookimpl
    def eligibility_rules(self, request: object) -> list[Rule]:
        return [Rule("looks", "It looks odd.", check=self.check)]


def host_checking(check: Check) -> PluginHost:
    return PluginHost([resource_folder("plugins")], given={"odd": Odd(check)})


def on_this_loop() -> Callable[[Coroutine[Any, Any, T]], Awaitable[T]]:
    """Return a function with which a check, which runs in a thread, awaits something of the test's own loop."""
    loop = asyncio.get_running_loop()
    return lambda work: asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


async def crowd(district: DistrictBuilder, number: int) -> int:
    """Add students with a cell phone, in one go, and return the first one's number."""
    school = await district.school()
    first: int = await district.conn.fetchval(
        "insert into person (district_id, first_name, last_name)"
        " select $1, 'S', n::text from generate_series(1, $2::integer) n returning person_id",
        district.id, number,
    )  # fmt: skip
    await district.conn.execute(
        "insert into enrollment (district_id, person_id, school_id, school_year, grade)"
        " select $1, person_id, $2, 2026, '09' from person where district_id = $1", district.id, school,
    )  # fmt: skip
    await district.conn.execute(
        "insert into contact_point select $1, person_id, 'CELL_PHONE', person_id::text from person"
        " where district_id = $1", district.id,
    )  # fmt: skip
    return first


async def run_checking(
    db: Pool, district: DistrictBuilder, check: Check, *named: Cell, dry_run: bool = False, **limits: Any
) -> tuple[Batches, dict[str, Any]]:
    """Run a batch under the check and return the run's row."""
    host = host_checking(check)
    async with working(BatchWorker(db, host, poll_seconds=0.05, **limits)) as worker:
        batches = Batches(db, host, district, worker)
        number = await batches.run(*(named or cells(CELL, "EMERGENCY")), dry_run=dry_run)
        return batches, await batches.row(number)
