"""What the product relies on where it runs its own plug-ins without the precautions that others need."""

import re
import threading
from itertools import product

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import statement
from gql_server.domain.channels import Method
from gql_server.domain.sql import numbered
from gql_server.hooks import Cell, Context, PreferenceChanges, Role, Rule, RuleRequest, Setting, Sql
from gql_server.hooks.host import PluginHost
from gql_server.services.rules.rule_set import RuleSet, denials, denied_by
from tests.support.batch import CELL
from tests.support.page import host_of

REACHED = """
select p.oid::regprocedure::text
from pg_rewrite r
cross join regexp_matches(r.ev_action::text, ':(funcid|aggfnoid|winfnoid|opfuncid|opno) (\\d+)', 'g') as found (parts)
left join pg_operator o on found.parts[1] = 'opno' and o.oid = found.parts[2]::oid
join pg_proc p on p.oid = coalesce(o.oprcode, case when found.parts[1] <> 'opno' then found.parts[2]::oid end)
join pg_language l on l.oid = p.prolang
where r.ev_class = 'asked'::regclass and (p.provolatile = 'v'
  or p.pronamespace <> 'pg_catalog'::regnamespace and not (p.provolatile = 'i' and l.lanname = 'sql'))
"""
READ = """
select distinct c.relname from pg_rewrite r
join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
join pg_class c on c.oid = d.refobjid
where r.ev_class = 'asked'::regclass and d.refobjid <> r.ev_class and c.relkind <> 'r'
"""


def request(context: Context, setting: Setting) -> RuleRequest:
    return RuleRequest(
        context=context,
        district="maple",
        time_zone="UTC",
        role=Role.ADMIN,
        mode="STUDENTS" if context is Context.BATCH else None,
        cells=tuple(Cell(CELL, Method.VOICE, reason, setting) for reason in ("STAFF", "GENERAL")),
    )


@pytest.mark.parametrize(("context", "setting"), [*product(Context, (Setting.ON, Setting.OFF))])
async def test_the_sql_of_built_in_rules_only_reads(
    db: Pool, host: PluginHost, context: Context, setting: Setting
) -> None:
    """It reads tables, and calls nothing but functions of PostgreSQL that change neither data nor the session, and
    immutable ones of the schema in SQL (D10)."""
    owned = host.rules(request(context, setting))
    assert all(rule.built_in for rule in owned)
    rules = RuleSet.of(dict(enumerate(owned, start=1)))
    asked = statement("rules/page_denials").fill(
        page=statement("rules/page"), denied_by=denied_by(rules.conditions), denials=denials(rules.selects)
    )
    text = re.sub(r"\$\d+", "null", numbered(asked.text)[0])
    async with db.acquire() as conn, conn.transaction():
        await conn.execute(f"create temporary view asked as {text}")
        assert [row[0] for row in await conn.fetch(REACHED)] == []
        assert [row[0] for row in await conn.fetch(READ)] == []


def test_a_rule_of_another_plugin_is_not_built_in() -> None:
    """Only what comes from the product's own folder counts as such, whatever is loaded beside."""
    host = host_of(Rule.where("odd", "Words.", Sql("true")))
    assert [rule.built_in for rule in host.rules(request(Context.WRITE, Setting.ON))] == [False]


async def test_built_in_hooks_need_no_thread(host: PluginHost) -> None:
    """They are called at once where no other plug-in is called with them, and in a thread where one is (D10)."""

    def running() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "hooks"}

    before = running()  # those of other tests may end meanwhile
    assert await host.calls.rules(request(Context.WRITE, Setting.ON))
    host.calls.notify_preferences_changed(
        PreferenceChanges(district="maple", revision=1, source="ADMIN", preferences=1)
    )
    await host.calls.finish(5)
    assert running() <= before
    other = host_of(Rule.where("odd", "Words.", Sql("true")))
    assert await other.calls.rules(request(Context.WRITE, Setting.ON))
    assert len(running() - before) == 1
    await other.calls.finish(5)
