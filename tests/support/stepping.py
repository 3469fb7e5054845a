"""Works runs in the test's own steps, where a running worker would be too fast: claim, plan, some chunks, the end."""

from gql_server.db.migrations import migrations
from gql_server.db.pool import Pool
from gql_server.db.statements import execute, fetchrow
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.apply import apply_chunk, finish_run
from gql_server.services.batch.plan import plan_run
from gql_server.services.batch.run import Run


async def claim(db: Pool, owner: str = "test", *, lease_seconds: float = 30) -> Run:
    """Claim the next run, as a worker does. There is one."""
    run = await claim_any(db, owner, lease_seconds=lease_seconds)
    assert run is not None
    return run


async def claim_any(db: Pool, owner: str = "test", *, lease_seconds: float = 30) -> Run | None:
    """Claim the next run, as a worker does; None if there is none."""
    known = [migration.name for migration in migrations()]
    async with db.transaction() as conn:
        row = await fetchrow(
            conn, "batch/run/claim", lease_owner=owner, lease_seconds=lease_seconds, migrations=known
        )
    return None if row is None else Run.from_row(row, owner)


async def begin(db: Pool, host: PluginHost, chunks: int, chunk_size: int = 2) -> Run:
    """Claim the next run, plan it, and apply so many of its chunks, or all there are."""
    run = await claim(db)
    await plan_run(db, host, run, chunk_size=chunk_size)
    for _ in range(chunks):
        if await apply_chunk(db, run, lease_seconds=30) is None:
            break
    return run


async def work(db: Pool, host: PluginHost, chunk_size: int = 2) -> Run:
    """Claim the next run and work it to its end."""
    run = await claim(db)
    if run.status == "PLANNING":
        await plan_run(db, host, run, chunk_size=chunk_size)
    if not run.plan_only:
        while await apply_chunk(db, run, lease_seconds=30) is not None:
            pass
        await finish_run(db, run)
        async with db.transaction(run.district.district_id) as conn:
            await execute(conn, "batch/housekeeping/remove_plan", **run.key)
    return run
