"""A log of a row a person becomes a log in blocks when the database is migrated, and says the same (D28)."""

from collections.abc import AsyncIterator

import pytest

from gql_server.db.migrations import migrate, migrations
from gql_server.db.pool import connect
from gql_server.db.protocols import Connection

OLD_ROWS = """
insert into change (district_id, revision, kind, person_id, household_id, contact_point, method, turned_on, turned_off,
  chosen, unchosen)
select d, r, 'PREFERENCES'::change_kind, p, null::bigint, 'EMAIL'::contact_point_kind, 'EMAIL'::method,
  case when r = 1 then 3 else p % 4 end, 0, case when p % 2 = 0 then 1 else 0 end, 0
from generate_series(1, 2) d, generate_series(1, 3) r, generate_series(900, 2100, 3) p
union all
select 1, 4, 'PREFERENCES', null, h, 'HOUSEHOLD_PHONE', 'VOICE', 0, 5, 0, 1 from generate_series(1, 3) h
union all
select 1, 5, 'MEMBERSHIP', 7, 8, null, null, 0, 0, 0, 0
union all
select 1, 5, 'PERSON', 7, null, null, null, 0, 0, 0, 0
"""
OLD_FORM = """
select c.district_id, c.revision, s.subject, s.subject_id, c.kind::text, c.contact_point::text, c.method::text,
  c.turned_on, c.turned_off, c.chosen, c.unchosen
from change c cross join lateral (values ('PERSON', person_id), ('HOUSEHOLD', household_id)) s (subject, subject_id)
where s.subject_id is not null
order by 1, 2, 3, 4, 5, 6, 7
"""
NEW_FORM = """
select district_id, revision, subject::text, subject_id, kind::text, contact_point::text, method::text, turned_on,
  turned_off, chosen, unchosen
from subject_change order by 1, 2, 3, 4, 5, 6, 7
"""


@pytest.fixture
async def conn(server_dsn: str) -> AsyncIterator[Connection]:
    """A connection to an empty database."""
    async with connect(server_dsn.format(database="postgres")) as admin:
        await admin.execute('drop database if exists "test_log_migration"')
        await admin.execute('create database "test_log_migration"')
    async with connect(server_dsn.format(database="test_log_migration")) as conn:
        yield conn


async def test_the_rows_of_the_old_log_are_kept(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a person or household had in the log before is in it afterwards, in few rows; a row that named both
    tells of both (D28)."""
    every = migrations()
    older = [migration for migration in every if migration.name < "0010"]
    monkeypatch.setattr("gql_server.db.migrations.migrations", lambda: older)
    await migrate(conn)
    await conn.execute("insert into district (code, name) values ('a', 'A'), ('b', 'B')")
    await conn.execute(OLD_ROWS)
    before = [tuple(row.values()) for row in await conn.fetch(OLD_FORM)]
    monkeypatch.setattr("gql_server.db.migrations.migrations", lambda: every)
    await migrate(conn)
    assert [tuple(row.values()) for row in await conn.fetch(NEW_FORM)] == before
    assert (
        await conn.fetchval("select count(*) from change where kind = 'PREFERENCES' and revision < 4")
        == 2 * 3 * 3
    )
    assert await conn.fetchval("select array_agg(distinct log_begins) from district") == [1]
