"""What an administrator and the log are told of an exception of a plug-in: its words, but none about a person."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import structlog
from asyncpg import QueryCanceledError

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.errors import PluginError
from gql_server.hooks import Candidate, DistrictReader, Rule, Verdict, hookimpl
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.rules.redact import redacted, with_reason
from tests.support.batch import CELL, Batches, cells, working
from tests.support.builder import DistrictBuilder
from tests.support.checks import run_checking


def raising(
    error: BaseException,
) -> Callable[[Sequence[Candidate], DistrictReader], Awaitable[Sequence[Any]]]:
    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Any]:
        raise error

    return check


@pytest.fixture
async def people(district: DistrictBuilder) -> None:
    """A student of the population with a phone, and a household and a person whom no rule is asked about."""
    await district.student(await district.school(), "Sam", cell_phone="+1 (555) 010-0177")
    await district.person("Ox Yi")
    await district.person("Sara Burke")
    stranger = await district.person("Ann-Mary De la Cruz", source_id="S-1", email="ann@maple.example")
    await district.household(stranger, name="The Cruz home", phone="77-12")


@pytest.mark.usefixtures("people")
async def test_an_exceptions_words_reach_the_run_and_the_log(db: Pool, district: DistrictBuilder) -> None:
    """Its first line is told, after the plug-in's and the rule's name, in both places alike; no trace is."""
    error = RuntimeError("The lookup service answers 503.\nTraceback (most recent call last):")
    with structlog.testing.capture_logs() as logs:
        _, row = await run_checking(db, district, raising(error), *cells(CELL, "EMERGENCY"))
    words = "Plug-in 'odd': rule 'looks' failed: RuntimeError. It says: The lookup service answers 503."
    assert (row["status"], row["errors"]) == ("FAILED", [words])
    assert [log["errors"] for log in logs if log["event"] == "batch_run_failed"] == [[words]]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("error", [Unspeakable(), RuntimeError(), RuntimeError("\n \n"), KeyError()])
async def test_an_exception_without_words_is_told_by_its_kind(
    db: Pool, district: DistrictBuilder, error: Exception
) -> None:
    """An exception that says nothing, or cannot, still fails the run with its kind."""
    _, row = await run_checking(db, district, raising(error), *cells(CELL, "EMERGENCY"))
    assert row["errors"] == [f"Plug-in 'odd': rule 'looks' failed: {type(error).__name__}."]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no home for Sam De la Cruz", "no home for … …"),
        ("KeyError: 'ann-mary', SAM's", "KeyError: '…', …'s"),
        ("the same sample of 3 in 30 s", "the …e …ple of 3 in 30 s"),
        ("KeyError('burke_sara'), SaraBurke, xsam", "KeyError('…_…'), ……, x…"),
        ("an ox is no box", "an … is no box"),
        ("mail to ANN@maple.example and to x.y@elm.example;", "mail to … and to …"),
        ("+1 (555) 010-0177, 5550100178 or 77-12", "…, … or …"),
        ("born 2010-05-01, id S-1, row 4711", "born …, id …, row 4711"),
        ("The Cruz home\x00 is \ud800 empty", "… is ? empty"),
        ("x" * 300, "x" * 200),
        ("Sam, 555-0100", ""),
        ("", ""),
    ],
)
async def test_nothing_on_record_is_told(db: Pool, district: DistrictBuilder, said: str, told: str) -> None:
    """Names, ids and contact points of anybody in the district are hidden in any case, also where they are part of a
    word, but for those of one or two characters; so is what looks like an email address or a longer number, on record
    or not."""
    assert await redacted(db, district.id, said) == told


def asking(sql: str) -> Callable[[Sequence[Candidate], DistrictReader], Awaitable[Sequence[Any]]]:
    async def check(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Any]:
        await reader.fetch(sql)
        return [Verdict.ALLOW] * len(candidates)

    return check


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("select d.household from person d", "column d.household does not exist"),
        ("update person set last_name = '' returning 1", "cannot execute UPDATE in a read-only transaction"),
        ("select burke_Sara from person", 'column "…_…" does not exist'),
        ("select 1 from person where last_name = 'O'Burke'", 'syntax error at or near "…"'),
        ("select 1 from person where last_name = Burke", 'column "…" does not exist'),
    ],
)
async def test_postgresqls_own_sentences_can_be_read(
    db: Pool, district: DistrictBuilder, sql: str, told: str
) -> None:
    """Words of PostgreSQL about SQL that is wrong or writes are told whole, though names are parts of them. A name
    that a plug-in wrote into its SQL is a word of its own there, and hidden."""
    for name in ("Hold House", "Ann Exec", "Tat Men", "Ute Pdat"):
        await district.person(name)
    _, row = await run_checking(db, district, asking(sql), *cells(CELL, "EMERGENCY"))
    assert row["status"] == "FAILED"
    assert row["errors"][0].endswith(f" It says: {told}")


async def test_a_statement_that_was_stopped_can_be_read(db: Pool, district: DistrictBuilder) -> None:
    """What PostgreSQL says of a time limit is told whole, in the same way; an exception of Python with such a word is
    not: it may hold what was read."""
    for name in ("Tat Men", "Lin Tim", "Out Cel"):
        await district.person(name)
    words = "canceling statement due to statement timeout"
    for cause, told in (
        (QueryCanceledError(words), words),
        (RuntimeError(words), "can…ing s…e…t due to s…e…t …e…"),
    ):
        error = PluginError("odd", "it failed.")
        error.__cause__ = cause
        assert str(await with_reason(db, district.id, error)).endswith(f"It says: {told}")


async def test_a_hooks_exception_is_told_too(db: Pool, district: DistrictBuilder) -> None:
    """What `eligibility_rules` raises while a run is planned reaches the run in the same way (D10)."""

    class Odd:
        @hookimpl
        def eligibility_rules(self, request: object) -> list[Rule]:
            raise LookupError("no table of rules")

    host = PluginHost([resource_folder("plugins")], given={"odd": Odd()})
    await district.student(await district.school(), cell_phone="1")
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        row = await batches.row(await batches.run(*cells(CELL, "EMERGENCY")))
    words = "Plug-in 'odd': eligibility_rules failed: LookupError. It says: no table of rules"
    assert (row["status"], row["errors"]) == ("FAILED", [words])
