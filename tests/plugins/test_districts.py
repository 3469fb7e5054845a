"""One plug-in serves all districts of a server, and always knows which one it is asked or told about (D38)."""

import asyncio

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.hooks import (
    BatchMode,
    BatchScope,
    FilterKind,
    Population,
    PreferenceChanges,
    Rule,
    RuleRequest,
    RunSummary,
    Sql,
    hookimpl,
)
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from tests.support.batch import CELL, Batches, cells, working
from tests.support.builder import DistrictBuilder


class Recorder:
    """Has a mode that selects everyone, and records the district that each hook is given."""

    def __init__(self) -> None:
        self.named: list[tuple[str, str]] = []

    @hookimpl
    def batch_modes(self) -> list[BatchMode]:
        return [BatchMode("EVERYONE", "Everyone", "Everyone on record.", FilterKind.CENSUS)]

    @hookimpl
    def select_population(self, mode: str, scope: BatchScope) -> Population | None:
        self.named.append(("select_population", scope.district))
        return Population(Sql("select p.person_id from person p where p.district_id = :district_id"))

    @hookimpl
    def eligibility_rules(self, request: RuleRequest) -> list[Rule]:
        self.named.append(("eligibility_rules", request.district))
        return []

    @hookimpl
    def preferences_changed(self, changes: PreferenceChanges) -> None:
        self.named.append(("preferences_changed", changes.district))

    @hookimpl
    def run_finished(self, run: RunSummary) -> None:
        self.named.append(("run_finished", run.district))


async def test_whatever_a_plugin_is_given_names_the_district(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """The same batch in two districts: each call of each hook names the district that it is for (D38)."""
    async with db.acquire() as conn:
        birch = await DistrictBuilder.create(conn, host, "birch")
        for builder in (district, birch):
            await builder.person(cell_phone="1")
        for builder in (birch, district):
            recorder = Recorder()
            recording = PluginHost([resource_folder("plugins")], given={"recorder": recorder})
            async with working(BatchWorker(db, recording, poll_seconds=0.05)) as worker:
                await Batches(db, recording, builder, worker).run(*cells(CELL, "GENERAL"), mode="EVERYONE")
            async with asyncio.timeout(30):
                while len({hook for hook, _ in recorder.named}) < 4:
                    await asyncio.sleep(0.01)
            assert {name for _, name in recorder.named} == {builder.district.code}
            written = "select count(*) from preference where district_id = $1"
            assert await builder.conn.fetchval(written, builder.id) == 1
