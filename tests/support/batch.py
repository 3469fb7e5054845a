"""Runs batches in the test's process: a service, a worker, and questions to ask of what they left."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gql_server.db.pool import Pool
from gql_server.db.statements import statement
from gql_server.domain.batch import Cell, Setting
from gql_server.domain.changes import Source
from gql_server.domain.channels import ContactPointKind, batch_method
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import Rejected
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.request import BatchRequest, ScopeInput
from gql_server.services.batch.service import BatchService
from gql_server.services.batch.signals import RunSignals
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.changes import ChangeSet, table_slots, write_preferences
from tests.support.builder import DistrictBuilder

HOUSEHOLD, CELL, WORK, EMAIL = (
    ContactPointKind.HOUSEHOLD_PHONE,
    ContactPointKind.CELL_PHONE,
    ContactPointKind.WORK_PHONE,
    ContactPointKind.EMAIL,
)
ON, OFF = Setting.ON, Setting.OFF


def admin(district: DistrictBuilder) -> Viewer:
    return Viewer(district.district, Role.ADMIN)


def cells(kind: ContactPointKind, *reasons: str, to: Setting = ON) -> tuple[Cell, ...]:
    return tuple(Cell(kind, reason, to) for reason in reasons)


def run_id(batch_run_id: int) -> str:
    return encode_id(IdKind.BATCH_RUN, batch_run_id)


@asynccontextmanager
async def working(worker: BatchWorker) -> AsyncIterator[BatchWorker]:
    """Let a worker work for the length of the block."""
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def hearing(db: Pool) -> AsyncIterator[RunSignals]:
    """Listen for runs that move, for the length of the block."""
    signals = RunSignals(db)
    with signals.watch(0, 0) as listening:  # all who watch are told when it begins
        task = asyncio.create_task(signals.run())
        await listening.wait()
    try:
        yield signals
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Batches:
    """Submits batches for one district as its administrator."""

    def __init__(self, db: Pool, host: PluginHost, district: DistrictBuilder, worker: BatchWorker) -> None:
        self.db, self.host, self.district, self.worker = db, host, district, worker
        # Without an ear for signals: a short poll is enough here.
        self.service = BatchService(db, host, worker, RunSignals(db), poll_seconds=0.02)

    async def run(
        self, *named: Cell, mode: str = "STUDENTS", scope: ScopeInput | None = None,
        keep_chosen: bool = False, wait: int = 30, dry_run: bool = False, key: str | None = None,
    ) -> int:  # fmt: skip
        """Submit a batch, wait for its end (or its plan) and return its number."""
        request = BatchRequest(mode, scope or ScopeInput(), named, keep_chosen, dry_run, key)
        return await self.service.submit(admin(self.district), request, wait)

    async def apply(self, batch_run_id: int, wait: int = 30) -> int:
        """Apply a plan, wait for its end and return its number."""
        return await self.service.apply(admin(self.district), run_id(batch_run_id), wait)

    async def revert(self, batch_run_id: int, wait: int = 30) -> int:
        """Revert a run, wait for the end of that and return the number of the new run."""
        return await self.service.revert(admin(self.district), run_id(batch_run_id), wait)

    async def cancel(self, batch_run_id: int) -> int:
        return await self.service.cancel(admin(self.district), run_id(batch_run_id))

    async def codes(self, *named: Cell, mode: str = "STUDENTS", scope: ScopeInput | None = None) -> list[str]:
        """Submit a batch that is to be refused and return the codes of its errors."""
        return [error.code for error in await self.errors(*named, mode=mode, scope=scope)]

    async def errors(self, *named: Cell, mode: str = "STUDENTS", scope: ScopeInput | None = None) -> Any:
        try:
            await self.run(*named, mode=mode, scope=scope, wait=0)
        except Rejected as rejection:
            return rejection.errors
        return ()

    async def row(self, batch_run_id: int) -> dict[str, Any]:
        """Return the run's own row."""
        query = "select * from batch_run where district_id = $1 and batch_run_id = $2"
        row = await self.district.conn.fetchrow(query, self.district.id, batch_run_id)
        assert row is not None
        return dict(row.items())

    async def ended(self, batch_run_id: int) -> dict[str, Any]:
        """Wait until a run has ended or is PLANNED and return its row."""
        working = ("QUEUED", "PLANNING", "APPLYING", "REVERTING")
        async with asyncio.timeout(30):
            while (row := await self.row(batch_run_id))["status"] in working:
                await asyncio.sleep(0.02)
        return row

    async def counts(
        self, batch_run_id: int, kind: ContactPointKind, reason: str, *, foreseen: bool = False
    ) -> dict[str, int]:
        """Return the counts of one cell: of what the run did, or of what its plan foresaw."""
        row = await self.district.conn.fetchrow(
            "select updated, unchanged, overwrote_chosen, kept_chosen, excluded, people_affected"
            f" from {'batch_forecast' if foreseen else 'batch_cell'}"
            " where district_id = $1 and batch_run_id = $2 and contact_point = $3 and reason = $4",
            self.district.id, batch_run_id, kind, reason,
        )  # fmt: skip
        assert row is not None
        return dict(row.items())

    async def meanwhile(self, batch_run_id: int, kind: ContactPointKind, reason: str) -> tuple[int, int]:
        """Return how often one cell was left alone, and how often kept out, for what happened meanwhile."""
        row = await self.district.conn.fetchrow(
            "select left_alone, excluded_since from batch_cell"
            " where district_id = $1 and batch_run_id = $2 and contact_point = $3 and reason = $4",
            self.district.id, batch_run_id, kind, reason,
        )  # fmt: skip
        assert row is not None
        left_alone, excluded = row.values()
        return left_alone, excluded

    async def kept_out(self, batch_run_id: int) -> set[tuple[str, bool, int, str, tuple[str, ...]]]:
        """Return who was kept out: rule, whether a household, whom, contact point, reasons."""
        rows = await self.district.conn.fetch(
            "select r.plugin, x.household, x.subject_id, x.contact_point, x.reasons from batch_exclusion x"
            " join batch_rule r using (district_id, batch_run_id, rule_no)"
            " where x.district_id = $1 and x.batch_run_id = $2",
            self.district.id, batch_run_id,
        )  # fmt: skip
        bits = self.district.bits
        return {
            (
                r["plugin"],
                r["household"],
                r["subject_id"],
                r["contact_point"],
                tuple(bits.codes(r["reasons"])),
            )
            for r in rows
        }

    async def household_on(self, household_id: int) -> list[str]:
        """Return the reasons that are on for a household's phone by VOICE."""
        mask = await self.district.conn.fetchval(
            "select reasons_on from household_preference where district_id = $1 and household_id = $2"
            " and method = 'VOICE'", self.district.id, household_id,
        )  # fmt: skip
        return self.district.bits.codes(mask or 0)

    async def choose(
        self, subject_id: int, kind: ContactPointKind, on: tuple[str, ...] = (), off: tuple[str, ...] = (),
        source: Source = Source.PORTAL,
    ) -> None:  # fmt: skip
        """Write as a portal user does, whose settings are their own choice; another source chooses nothing."""
        bits = self.district.bits
        target = statement("preference/cells").fill(**table_slots(kind is HOUSEHOLD)).having(
            subject_id=subject_id, contact_points=[kind], methods=[batch_method(kind)],
            on_masks=[bits.mask(on)], off_masks=[bits.mask(off)],
        )  # fmt: skip
        async with self.db.transaction() as conn:
            await write_preferences(
                conn, ChangeSet(self.district.id, source, "test"), target,
                household=kind is HOUSEHOLD, mark_chosen=source is Source.PORTAL,
            )  # fmt: skip

    async def save_filter(self, kind: str, criteria: str) -> str:
        """Save a filter and return its global id."""
        number = await self.district.insert(
            "saved_filter", "saved_filter_id", name=criteria[:90], kind=kind, criteria=criteria
        )
        return encode_id(IdKind.SAVED_FILTER, number)


async def replayed(
    district: DistrictBuilder, *, folded: bool = False
) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Return the preferences that the change log alone gives: by subject and channel, the on and the chosen mask.

    Each change must change something, unless what came before it is folded into a baseline.
    """
    rows = await district.conn.fetch(
        "select * from subject_change where district_id = $1 and kind = 'PREFERENCES' order by revision",
        district.id,
    )
    state: dict[tuple[Any, ...], tuple[int, int]] = {}
    for row in rows:
        ids = (None, row["subject_id"]) if row["subject"] == "HOUSEHOLD" else (row["subject_id"], None)
        key = (*ids, row["contact_point"], row["method"])
        on, chosen = state.get(key, (0, 0))
        assert folded or not on & row["turned_on"]
        assert folded or row["turned_off"] & ~on == 0
        state[key] = (
            (on | row["turned_on"]) & ~row["turned_off"],
            (chosen | row["chosen"]) & ~row["unchosen"],
        )
    return {key: masks for key, masks in state.items() if any(masks)}


async def actual(district: DistrictBuilder) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Return the preferences as they are, in the form of `replayed`."""
    rows = await district.conn.fetch(
        "select person_id, null::bigint as household_id, contact_point, method, reasons_on, reasons_chosen"
        " from preference where district_id = $1 union all"
        " select null, household_id, contact_point, method, reasons_on, reasons_chosen"
        " from household_preference where district_id = $1", district.id,
    )  # fmt: skip
    return {
        (r["person_id"], r["household_id"], r["contact_point"], r["method"]): (
            r["reasons_on"],
            r["reasons_chosen"],
        )
        for r in rows
        if r["reasons_on"] or r["reasons_chosen"]
    }


async def revisions(district: DistrictBuilder) -> Sequence[int]:
    """Return the revisions of the district's change sets, in order."""
    rows = await district.conn.fetch(
        "select revision from change_set where district_id = $1 order by revision", district.id
    )
    return [row["revision"] for row in rows]
