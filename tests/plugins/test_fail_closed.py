"""What a plug-in does wrong fails the run or the write, in words that help its author, and writes nothing."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from gql_server.db.pool import Pool
from gql_server.domain.ids import IdKind, encode_id
from gql_server.errors import Busy, PluginError, Unavailable
from gql_server.hooks import (
    BatchMode,
    Candidate,
    DistrictReader,
    FilterKind,
    Population,
    Rule,
    Setting,
    Sql,
    Verdict,
    hookimpl,
)
from gql_server.hooks.testing import validate_plugin
from gql_server.services.batch.run import Run
from gql_server.services.batch.worker import MAX_CLAIMS, BatchWorker
from tests.plugins.test_check_threads import INPUT, SET, SUBMIT
from tests.plugins.test_hook_threads import host_with, post, setting
from tests.plugins.test_host import hook, rules, write
from tests.support.batch import CELL, Batches, cells, working
from tests.support.builder import DistrictBuilder
from tests.support.checks import crowd, run_checking
from tests.support.faults import ServerProcess
from tests.support.server import serving

pytestmark = pytest.mark.slow

DENIALS = (
    "select c.household, c.subject_id, c.contact_point, c.method, -1::bigint as reasons from candidate c"
)
STEALTHY = """
create function stealthy() returns boolean language sql volatile as
$$ insert into opt_out (district_id, address, method, source) values (1, 'x', 'VOICE', 'ADMIN') returning true $$;
create function complains() returns boolean language plpgsql volatile as
$$ begin raise exception 'no luck with Sam, born 2011-02-03'; end $$;
"""


class Ruling:
    """A plug-in with the rules given."""

    def __init__(self, *given: Rule) -> None:
        self.given = given

    @hookimpl
    def eligibility_rules(self, request: object) -> list[Rule]:
        return list(self.given)


class Selecting:
    """A plug-in whose mode selects by the SQL given."""

    def __init__(self, sql: str) -> None:
        self.sql = sql

    @hookimpl
    def batch_modes(self) -> list[BatchMode]:
        return [BatchMode("ODD", "A", "A.", FilterKind.STUDENT)]

    @hookimpl
    def select_population(self, mode: str, scope: object) -> Population | None:
        return Population(Sql(self.sql)) if mode == "ODD" else None


async def run_with(db: Pool, district: DistrictBuilder, plugin: object, **limits: Any) -> dict[str, Any]:
    """Run a batch under a plug-in and return the run's row."""
    host = host_with(plugin)
    async with working(BatchWorker(db, host, poll_seconds=0.05, **limits)) as worker:
        batches = Batches(db, host, district, worker)
        return await batches.row(await batches.run(*cells(CELL, "EMERGENCY")))


def denying(text: str) -> Ruling:
    return Ruling(Rule("picky", "No.", deny_select=Sql(text)))


def where(text: str) -> Ruling:
    return Ruling(Rule.where("picky", "No.", Sql(text)))


FAULTS = [
    (
        where("c.subject_id > 0\n  and c.phone is null"),
        "failed in the database (42703, line 2, column 7 of its SQL). It says: column c.phone does not exist",
    ),
    (denying("select household from candidate"), "failed in the database (42703)."),
    (
        denying(f"with gone as (update preference set reasons_on = 0 returning 1) {DENIALS}"),
        "SQL that writes or locks (update preference set): it may only read.",
    ),
    (
        denying(f'with gone as (update "preference" set reasons_on = 0 returning 1) {DENIALS}'),
        "(0A000, line 1",
    ),
    (where("stealthy()"), "(25006). It says: cannot execute INSERT in a read-only transaction"),
    (where("complains()"), "failed in the database (P0001). It says: no luck with …, born …"),
    (
        where("c.address::integer > 0 and (c.address || ' of Lee')::integer = 1"),
        "(22P02). It says: invalid input syntax for type integer: …",
    ),
    (where("pg_sleep(60) is not null"), "rule 'picky' took longer than 0.5 s in the database."),
]


@pytest.mark.parametrize(("plugin", "words"), FAULTS)
async def test_a_rules_sql_at_fault_fails_the_run(
    db: Pool, district: DistrictBuilder, plugin: Ruling, words: str
) -> None:
    """SQL that is wrong, that writes (even in a function), or that takes too long fails the run. The error names the
    plug-in, the rule, PostgreSQL's words and the place in the author's own SQL, without values (D10)."""
    await crowd(district, 3)
    await district.person("Sam Lee")
    await district.conn.execute(STEALTHY)
    row = await run_with(db, district, plugin, statement_seconds=0.5)
    assert row["status"] == "FAILED"
    (told,) = row["errors"]
    assert told.startswith("Plug-in 'odd': ")
    assert words in told
    assert not any(name in told for name in ("Sam", "Lee", "2011"))
    for table in ("change", "opt_out"):
        assert await district.conn.fetchval(f"select count(*) from {table}") == 0


async def test_rules_that_are_slow_only_together_fail_no_run(db: Pool, district: DistrictBuilder) -> None:
    """Conditions that exceed the time of a statement together, and then rules over other tables, are each asked alone,
    and all of their answers count. What a condition denies, the rules after it are not asked about (D10)."""
    school = await district.school()
    people = [await district.student(school, cell_phone=address) for address in "x2345"]
    slow = "(select true from pg_sleep(0.4)) and "
    both = frozenset({Setting.ON, Setting.OFF})
    row = await run_with(
        db,
        district,
        Ruling(
            Rule("letters", "No.", deny_channel_when=Sql(slow + "c.address = 'x'"), settings=both),
            Rule("twos", "No.", deny_channel_when=Sql(slow + "c.address::integer = 2"), settings=both),
            Rule("nines", "No.", deny_channel_when=Sql(slow + "c.address = '9'"), settings=both),
            Rule.where("threes", "No.", Sql(slow + "10 / (c.address::integer - 2) = 10")),
            Rule.where("fours", "No.", Sql(slow + "c.address::integer = 4")),
            Rule.where("eights", "No.", Sql(slow + "c.address::integer = 8")),
        ),
        statement_seconds=1,
    )
    assert (row["status"], row["errors"]) == ("DONE", [])
    assert [await district.on(person, CELL) for person in people] == [[], [], [], [], ["EMERGENCY"]]


async def test_a_write_is_refused_where_a_rules_sql_is_at_fault(db: Pool, district: DistrictBuilder) -> None:
    """In a single write, too, a rule's SQL can only read. The answer and the log name the plug-in, and the log has
    PostgreSQL's words."""
    person = encode_id(IdKind.PERSON, await crowd(district, 1))
    await district.conn.execute(STEALTHY)
    with structlog.testing.capture_logs() as logs:
        async with serving(db, host_with(where("stealthy()")), district.district.code) as server:
            answer = await post(server, SET, setting(person))
    error = "Plug-in 'odd': rule 'picky' failed in the database (25006)."
    assert [each["message"] for each in answer["errors"]] == [error]
    (log,) = (log for log in logs if log["event"] == "plugin_failed")
    assert log["error"] == f"{error} It says: cannot execute INSERT in a read-only transaction"
    assert (log["plugin"], log["district"]) == ("odd", "maple")
    for table in ("change_set", "opt_out"):
        assert await district.conn.fetchval(f"select count(*) from {table}") == 0


async def test_a_check_that_fails_beside_a_write_is_logged(db: Pool, district: DistrictBuilder) -> None:
    """The log has the words of an exception that a check raises in a single write, except those about people."""
    person = encode_id(IdKind.PERSON, await crowd(district, 1))

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        raise LookupError(f"no line for {candidates[0].address}, 555-0100")

    with structlog.testing.capture_logs() as logs:
        host = host_with(Ruling(Rule("looks", "No.", check=check)))
        async with serving(db, host, district.district.code) as server:
            await post(server, SET, setting(person))
    (log,) = (log for log in logs if log["event"] == "plugin_failed")
    assert log["error"] == "Plug-in 'odd': rule 'looks' failed: LookupError. It says: no line for …, …"
    assert "test_fail_closed.py:" in log["where"]


LOOKS = [
    (
        "select 1\n  as one, missing from person",
        "UndefinedColumnError (42703, line 2, column 11 of its SQL).",
    ),
    (
        "select first_name from person\n where district_id = :district_id and nosuch(:today)",
        "UndefinedFunctionError (42883, line 2, column 39 of its SQL).",
    ),
    ("select 1 / (count(*) - count(*)) from person", "DivisionByZeroError (22012)."),
]


@pytest.mark.parametrize("literal", [r"E'O\'Brien'", "$$it's$$"])
async def test_a_literal_of_one_rule_fails_no_other(
    db: Pool, district: DistrictBuilder, literal: str
) -> None:
    """A quote in a literal of a rule's SQL is part of the literal, so the rules beside it are asked as ever (D10)."""
    person = encode_id(IdKind.PERSON, await crowd(district, 1))
    both = frozenset({Setting.ON, Setting.OFF})
    rule = Rule("quoted", "No.", deny_channel_when=Sql(f"c.address = {literal}"), settings=both)
    async with serving(db, host_with(Ruling(rule)), district.district.code) as server:
        await server.run(SET, setting(person))


@pytest.mark.parametrize(("sql", "words"), LOOKS)
async def test_a_check_whose_sql_is_wrong_is_told_where(
    db: Pool, district: DistrictBuilder, sql: str, words: str
) -> None:
    """The error for a wrong statement of a check's reader has the place in the author's SQL, and the log has the line
    of the plug-in that sent it."""
    person = encode_id(IdKind.PERSON, await crowd(district, 1))

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        await reader.fetch(sql)
        return [Verdict.ALLOW] * len(candidates)

    host = host_with(Ruling(Rule("looks", "No.", check=check)))
    with structlog.testing.capture_logs() as logs:
        async with serving(db, host, district.district.code) as server:
            answer = await post(server, SET, setting(person))
        row = await run_with(db, district, Ruling(Rule("looks", "No.", check=check)))
    told = f"Plug-in 'odd': rule 'looks' failed: {words}"
    assert [each["message"] for each in answer["errors"]] == [told]
    assert row["errors"][0].startswith(told)
    failed = [log for log in logs if log["event"] in ("plugin_failed", "batch_run_failed")]
    line = check.__code__.co_firstlineno + 1
    assert [log["where"].rpartition("/")[2] for log in failed] == [f"test_fail_closed.py:{line}"] * 2


async def test_a_check_whose_reader_writes_is_at_fault(db: Pool, district: DistrictBuilder) -> None:
    """A check that writes in a function is told PostgreSQL's words. No operator is told of a standby: the database is
    sound, and nothing is written (D10)."""
    person = encode_id(IdKind.PERSON, await crowd(district, 1))
    await district.conn.execute(STEALTHY)

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        await reader.fetch("select stealthy()")
        return [Verdict.ALLOW] * len(candidates)

    host = host_with(Ruling(Rule("looks", "No.", check=check)))
    with structlog.testing.capture_logs() as logs:
        async with serving(db, host, district.district.code) as server:
            answer = await post(server, SET, setting(person))
    told = "Plug-in 'odd': rule 'looks' failed: ReadOnlySQLTransactionError (25006)."
    assert [each["message"] for each in answer["errors"]] == [told]
    assert "database_access_refused" not in [log["event"] for log in logs]
    (log,) = (log for log in logs if log["event"] == "plugin_failed")
    assert log["error"] == f"{told} It says: cannot execute INSERT in a read-only transaction"
    assert await district.conn.fetchval("select count(*) from opt_out") == 0


async def test_a_selection_at_fault_is_refused_when_it_is_submitted(
    db: Pool, district: DistrictBuilder
) -> None:
    """A mode whose SQL writes in a function is an error with the plug-in's name; no run is recorded (D11)."""
    await crowd(district, 1)
    await district.conn.execute(STEALTHY)
    host = host_with(Selecting("select person_id from person where stealthy()"))
    async with serving(db, host, district.district.code) as server:
        answer = await post(server, SUBMIT, {"input": {**INPUT, "mode": "ODD"}})
    assert "the selection of the mode 'ODD' failed in the database (25006" in answer["errors"][0]["message"]
    for table in ("batch_run", "opt_out"):
        assert await district.conn.fetchval(f"select count(*) from {table}") == 0


async def test_candidates_reach_a_check_as_a_tuple(db: Pool, district: DistrictBuilder) -> None:
    """A check gets a tuple, in a run and in a single write, and so cannot change what the server goes on to use."""
    person = await crowd(district, 3)
    kinds: list[type] = []

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        kinds.append(type(candidates))
        return [Verdict.ALLOW] * len(candidates)

    await run_checking(db, district, check)
    host = host_with(Ruling(Rule("looks", "No.", check=check)))
    async with serving(db, host, district.district.code) as server:
        await server.run(SET, setting(encode_id(IdKind.PERSON, person)))
    assert kinds == [tuple, tuple]


async def test_a_reason_that_there_is_not_fails_the_run(db: Pool, district: DistrictBuilder) -> None:
    """A rule for a misspelt reason would deny nobody: it fails the run, and the words list the reasons (D3, D10)."""
    await crowd(district, 3)
    rule = Rule.where("picky", "No.", Sql("true"), reasons=["EMERGENCY", "GENREAL"])
    row = await run_with(db, district, Ruling(rule))
    assert row["status"] == "FAILED"
    assert row["errors"][0].startswith(
        "Plug-in 'odd': the rule 'picky' is for the reason 'GENREAL', which no plug-in gives. There are ATTENDANCE,"
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (hook("contact_reasons()", "None"), "contact_reasons must give a list, not NoneType"),
        (hook("batch_modes()", "None"), "batch_modes must give a list, not NoneType"),
        (hook("filter_fields()", "None"), "filter_fields must give a list, not NoneType"),
        (rules("None"), "eligibility_rules must give a list, not NoneType"),
        (rules("[Rule.where('r', 'W.', Sql('true'), reasons=['GENREAL'])]"), "the reason 'GENREAL'"),
        (rules("[Rule.where('r', 'W.', Sql('true'), reasons=[])]"), "no reason at all"),
        (
            rules("[Rule('r', 'W.', deny_select=Sql('select 1'), reasons=frozenset({'STAFF'}))]"),
            "only `Rule.where` takes",
        ),
        (rules("[Rule.where('r', 'W.', Sql('true; drop table x'))]"), "SQL with a `;`"),
        (rules("[Rule.where('r', 'W.', Sql('true) or (true'))]"), "brackets do not match"),
        (rules("[Rule.where('r', 'W.', Sql('true) or true'))]"), "brackets do not match"),
        (rules("[Rule.where('r', 'W.', Sql('true -- all'))]"), "ends in a `--` comment"),
        (rules("[Rule('r', 'W.', deny_select=Sql('delete from person returning 1'))]"), "writes or locks"),
        (rules("[Rule('r', 'W.', deny_select=Sql('select 1 from person for  update'))]"), "(for update)"),
        (rules("[Rule('r', 'W.', deny_select=Sql('true'))]"), "SQL that is no SELECT"),
        (rules("[Rule('r', 'W.', check=lambda candidates, reader: [])]"), "a plain function"),
        (
            hook(
                "filter_fields()", "[FilterField('a', 'A', FieldType.BOOLEAN, 'exists (delete from person)')]"
            ),
            "writes or locks (delete from)",
        ),
        ("@hookimpl\ndef run_finished(run):\n    yield\n", "is a generator"),
        ("@hookimpl\nasync def eligibility_rules(request):\n    return []\n", "is a coroutine"),
    ],
)
def test_what_can_be_seen_is_refused_before_a_run(body: str, words: str, tmp_path: Path) -> None:
    """The server validates what a plug-in gives when it is loaded or called, and so does the kit for authors."""
    file = write(tmp_path, "faulty", body)
    with pytest.raises(PluginError, match="Plug-in 'faulty': ") as caught:
        validate_plugin(file)
    assert words in str(caught.value)


async def test_words_in_literals_and_comments_are_no_writes(tmp_path: Path) -> None:
    """Text that only looks like a write, or like the end of a statement, is accepted."""
    text = "c.address <> 'delete from; (' /* for update; ) */ and c.address <> 'it''s -- no comment'"
    validate_plugin(write(tmp_path, "sound", rules(f'[Rule.where("r", "W.", Sql("""{text}"""))]')))


DIES = """
import os
from gql_server.hooks import Rule, hookimpl

async def check(candidates, reader):
    os._exit(9)

@hookimpl
def eligibility_rules(request):
    return [Rule("dies", "It takes the server with it.", check=check)]
"""


async def test_a_run_that_ends_its_server_is_given_up(
    dsn: str, district: DistrictBuilder, tmp_path: Path
) -> None:
    """A plug-in that ends the process whenever it is called does so six times at most: the next server fails the run
    and goes on."""
    await crowd(district, 3)
    plugin = tmp_path / "plugins" / "dies.py"
    plugin.parent.mkdir()
    plugin.write_text(DIES, encoding="utf-8")
    # Five of its servers are dead already.
    await district.conn.execute(f"alter table batch_run alter column claims set default {MAX_CLAIMS - 1}")
    server = ServerProcess(dsn, tmp_path, PLUGINS_DIR=str(plugin.parent), BATCH_LEASE_SECONDS="0.5")
    try:
        server.start()
        await server.up()
        with suppress(Unavailable):
            await server.ask(district.district.code, SUBMIT, {"input": INPUT})
        await server.gone()
        server.start()
        await server.up()
        async with asyncio.timeout(30):
            while (await district.conn.fetchval("select status::text from batch_run")) != "FAILED":
                await asyncio.sleep(0.05)
    finally:
        assert server.stop() == 0, server.log
    errors = await district.conn.fetchval("select errors from batch_run")
    assert errors[0].startswith(f"The run was started {MAX_CLAIMS} times")
    asking = [json.loads(line) for line in server.log.splitlines() if "batch_check_asked" in line]
    assert {(line["plugin"], line["run"]) for line in asking} == {("dies", "run_1")}


async def test_a_run_whose_connection_is_cut_each_time_is_given_up(
    db: Pool, district: DistrictBuilder
) -> None:
    """A run whose rule's SQL cuts its own connection is begun again five times at most. Then it has FAILED, and its
    words say why (D20)."""
    await crowd(district, 3)
    await district.conn.execute(
        "create function cuts() returns boolean language sql volatile as"
        " 'select pg_terminate_backend(pg_backend_pid())'"
    )
    row = await run_with(db, district, where("cuts()"))
    assert row["status"] == "FAILED"
    assert row["claims"] == MAX_CLAIMS + 1
    assert row["errors"][0].startswith(f"The run was started {MAX_CLAIMS} times. Each time")


async def test_a_worker_that_has_to_wait_does_not_wear_a_run_out(
    db: Pool, district: DistrictBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is done however often its worker found no connection free."""
    await crowd(district, 3)
    host = host_with(Ruling())
    worker = BatchWorker(db, host, poll_seconds=0.02, workers=1)
    left = MAX_CLAIMS + 1

    async def work(run: Run) -> None:
        nonlocal left
        if left:
            left -= 1
            raise Busy("Every connection to the database is in use. Try again in a moment.")
        await worked(run)

    worked = worker._execute
    monkeypatch.setattr(worker, "_execute", work)
    async with asyncio.timeout(30), working(worker):
        batches = Batches(db, host, district, worker)
        row = await batches.ended(await batches.run(*cells(CELL, "EMERGENCY"), wait=0))
    assert (row["status"], row["claims"], left) == ("DONE", 0, 0)


async def test_what_gets_further_or_is_handed_over_does_not_count(
    db: Pool, district: DistrictBuilder
) -> None:
    """A server that stops in an orderly way takes its claim back, and each chunk starts the count again."""
    await crowd(district, 3)
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        loop.call_soon_threadsafe(asked.set)
        await asyncio.Event().wait()
        return []

    stalling = host_with(Ruling(Rule("r", "W.", check=check)))
    run = None
    for _ in range(3):
        asked.clear()
        async with asyncio.timeout(30), working(BatchWorker(db, stalling, poll_seconds=0.05)) as worker:
            batches = Batches(db, stalling, district, worker)
            run = run or await batches.run(*cells(CELL, "EMERGENCY"), wait=0)
            await asked.wait()
            assert (await batches.row(run))["claims"] == 1
    assert run is not None
    assert (await batches.row(run))["claims"] == 0
    host = host_with(Ruling())
    async with working(BatchWorker(db, host, poll_seconds=0.05, chunk_size=1)) as worker:
        row = await Batches(db, host, district, worker).ended(run)
    assert (row["status"], row["claims"]) == ("DONE", 0)
