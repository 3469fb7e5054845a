"""What a plug-in's SQL does to its session in the database is gone before anything else runs there."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gql_server.db.pool import Pool, open_pool
from gql_server.domain.ids import IdKind, encode_id
from gql_server.errors import PluginError
from gql_server.hooks import Candidate, DistrictReader, FieldType, FilterField, Verdict, hookimpl
from gql_server.hooks.testing import validate_plugin
from tests.plugins.test_check_threads import INPUT, PERSON, SET, SUBMIT
from tests.plugins.test_fail_closed import Selecting, run_with, where
from tests.plugins.test_hook_threads import host_with, post, setting
from tests.plugins.test_host import hook, rules, write
from tests.support.builder import DistrictBuilder
from tests.support.checks import crowd, host_checking
from tests.support.server import serving

pytestmark = pytest.mark.slow

LEAKS = {
    "search_path": "set_config('search_path', 'pg_temp', false)",
    "statement_timeout": "set_config('statement_timeout', '1ms', false)",
    "role": "set_config('role', 'pg_read_all_data', false)",
    "lock": "(select 'locked' from pg_advisory_lock(77))",
    "lock of a failing statement": "(select (1 / length(pg_advisory_lock(77)::text))::text)",
}


@pytest.fixture(params=LEAKS)
async def leaks(request: pytest.FixtureRequest, district: DistrictBuilder) -> None:
    """A function that changes its session. Calls that a plug-in's own text shows are refused when it is loaded."""
    await district.conn.execute(
        "create function leaks() returns boolean language plpgsql volatile as"
        f" $$ begin return {LEAKS[request.param]} is not null; end $$"
    )


@pytest.fixture
async def narrow(dsn: str) -> AsyncIterator[Pool]:
    """A pool with one connection, so that each request gets the connection of the one before."""
    pool = await open_pool(dsn, min_size=1, max_size=1)
    yield pool
    await pool.close()


async def require_clean(pool: Pool, district: DistrictBuilder) -> None:
    """Fail where the session of the pool's connection is not as it was made."""
    async with pool.acquire() as conn:
        assert "public" in await conn.fetchval("show search_path")
        assert await conn.fetchval("show statement_timeout") == "1min"
        assert await conn.fetchval("select current_user = session_user")
        assert await conn.fetchval("select count(*) from person") > 0
    assert await district.conn.fetchval("select count(*) from pg_locks where locktype = 'advisory'") == 0


@pytest.mark.usefixtures("leaks")
async def test_a_rule_beside_a_write_leaves_no_session_state(narrow: Pool, district: DistrictBuilder) -> None:
    """After a write whose rule changes its session, the next request finds the session clean."""
    person = encode_id(IdKind.PERSON, await crowd(district, 1))
    async with serving(narrow, host_with(where("not leaks()")), district.district.code) as server:
        for on in (True, False):
            answer = await post(server, SET, setting(person, on))
            assert all("'picky'" in error["message"] for error in answer.get("errors", ()))
            assert (await server.run(PERSON, {"id": person}))["person"] is not None
            await require_clean(narrow, district)


@pytest.mark.usefixtures("leaks")
async def test_a_look_of_a_check_leaves_no_session_state(narrow: Pool, district: DistrictBuilder) -> None:
    """A statement of a check's reader is undone, too, and it refuses statements that would end its transaction."""
    person = encode_id(IdKind.PERSON, await crowd(district, 1))
    told: list[str] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        for sql in ("deallocate all", "commit", "set search_path to pg_temp", "select leaks()"):
            try:
                await reader.fetch(sql)
            except ValueError as error:
                told.append(str(error))
        return [Verdict.ALLOW] * len(candidates)

    async with serving(narrow, host_checking(check), district.district.code) as server:
        await post(server, SET, setting(person))
        assert told == ["A reader takes a SELECT."] * 3
        assert (await server.run(PERSON, {"id": person}))["person"] is not None
        await require_clean(narrow, district)


@pytest.mark.usefixtures("leaks")
async def test_a_rule_of_a_run_leaves_no_session_state(
    narrow: Pool, db: Pool, district: DistrictBuilder
) -> None:
    """A run whose rule sets something for its session fails with the name of that rule and of no other. Its locks are
    released."""
    await crowd(district, 3)
    async with narrow.acquire() as conn:
        takes_lock = "'locked'" in await conn.fetchval("select prosrc from pg_proc where proname = 'leaks'")
    row = await run_with(db, district, where("not leaks()"))
    if takes_lock:
        assert row["status"] == "DONE"
    else:
        assert row["status"] == "FAILED"
        assert row["errors"][0].startswith("Plug-in 'odd': rule 'picky' ")
    async with db.acquire() as one, db.acquire() as two, db.acquire() as three:
        for conn in (one, two, three):
            assert "public" in await conn.fetchval("show search_path")
            assert await conn.fetchval("show statement_timeout") == "1min"
    assert await district.conn.fetchval("select count(*) from pg_locks where locktype = 'advisory'") == 0


class Filtering:
    """A plug-in whose field of saved filters runs the function."""

    @hookimpl
    def filter_fields(self) -> list[FilterField]:
        return [FilterField("odd", "Odd", FieldType.BOOLEAN, "leaks()")]


@pytest.mark.usefixtures("leaks")
async def test_a_read_with_a_plugins_sql_leaves_no_session_state(
    narrow: Pool, district: DistrictBuilder
) -> None:
    """What the SQL of saved filters and modes sets during a read is undone."""
    await crowd(district, 1)
    await district.conn.execute(
        "insert into saved_filter (district_id, name, kind, criteria) values ($1, 'Odd', 'STUDENT', $2)",
        district.id, '{"field": "odd", "is": true}',
    )  # fmt: skip
    reads = ("{ savedFilters { matches } }", '{ batchOptions(mode: "ODD") { population } }')

    class Both(Filtering, Selecting):
        pass

    plugin = Both("select person_id from person where district_id = :district_id and leaks()")
    async with serving(narrow, host_with(plugin), district.district.code) as server:
        for read in reads:
            await post(server, read, {})
            await require_clean(narrow, district)
        await post(server, SUBMIT, {"input": {**INPUT, "mode": "ODD"}})
        await require_clean(narrow, district)


@pytest.mark.parametrize(
    "call",
    ["set_config('a.b', 'c', false)", "PG_ADVISORY_LOCK (1)", "pg_terminate_backend(1)", "nextval('s')"],
)
def test_sql_that_acts_is_refused_when_it_is_loaded(call: str, tmp_path: Path) -> None:
    """A call that does more than read is refused when its name is in the SQL."""
    text = f"{call} is null"
    for body in (
        rules(f'[Rule.where("r", "W.", Sql("""{text}"""))]'),
        hook("filter_fields()", f'[FilterField("a", "A", FieldType.BOOLEAN, """{text}""")]'),
    ):
        with pytest.raises(PluginError, match="SQL that calls"):
            validate_plugin(write(tmp_path, "faulty", body))


async def test_a_rule_of_a_run_that_takes_too_long_leaves_no_lock(
    db: Pool, district: DistrictBuilder
) -> None:
    """The lock that a rule took in a function is released where the rule is stopped, too."""
    await crowd(district, 1)
    await district.conn.execute(
        "create function lingers() returns boolean language sql volatile as"
        " $$ select pg_advisory_lock(77) is null or pg_sleep(60) is null $$"
    )
    row = await run_with(db, district, where("lingers()"), statement_seconds=0.5)
    assert row["errors"] == ["Plug-in 'odd': rule 'picky' took longer than 0.5 s in the database."]
    assert await district.conn.fetchval("select count(*) from pg_locks where locktype = 'advisory'") == 0
