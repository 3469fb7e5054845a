"""Every statement of sql/ is one that the migrated database understands, under a header that tells the truth."""

import re
from typing import Any

import pytest

from gql_server.db.statements import sections, statement
from gql_server.domain.sql import AMBIENT, parameters, slots
from tests.support.statements import (
    FILES,
    FOLDER,
    FRAGMENTS,
    PARENTS,
    TEXTS,
    complete,
    header,
    listed,
    makes_tables,
)

EVERY_DISTRICT = {
    "batch/run/claim": "a worker takes the next run of any district",
    "batch/housekeeping/remove_plans": "a worker tidies up after runs of any district",
    "batch/housekeeping/remove_old_keys": "a worker tidies up after calls to any district",
    "batch/housekeeping/cancel_old_plans": "a worker tidies up after plans of any district",
    "district/create": "there is no district yet",
    "district/find": "a token names the district by its code",
    "district/differing": "a server looks after all districts",
    "district/lock": "a server looks after all districts",
    "district/missing_reasons": "a server looks after all districts",
    "district/register_reasons": "a server looks after all districts",
}
"""The statements that are not bound to one district, and why."""


def words(text: str) -> str:
    """Return what a header says before it lists parameters and columns."""
    return re.split(r"^(?:Parameters|Columns):", header(text), flags=re.MULTILINE)[0].strip()


@pytest.mark.parametrize("name", [name for name in TEXTS if not makes_tables(name)])
async def test_a_statement_prepares_and_its_columns_are_as_told(prepared: Any, name: str) -> None:
    """PostgreSQL finds every table, column and type of the statement; what it returns is what the header lists."""
    async with prepared.transaction():
        found = await prepared.prepare(complete(name))
    columns = [attribute.name for attribute in found.get_attributes() if attribute.type.name != "void"]
    if name != "read/viewer":
        assert sorted(listed(name, "Columns") or []) == sorted(columns)


@pytest.mark.parametrize("name", TEXTS)
def test_a_header_says_what_the_statement_is_for_takes_and_gives(name: str) -> None:
    """The header begins with whole sentences, and lists the parameters and the columns that there are, or `none`."""
    assert re.fullmatch(r"[A-Z].+\.", words(TEXTS[name]), re.DOTALL)
    told, own = listed(name, "Parameters"), set(parameters(TEXTS[name]))
    filled_in = AMBIENT if slots(TEXTS[name]) else set()  # a fragment may take what the statement does not
    assert told is not None
    assert listed(name, "Columns") is not None
    assert own <= set(told) <= own | filled_in


@pytest.mark.parametrize("file", [file for file in FILES if sections(FILES[file])])
def test_a_file_of_several_statements_says_what_they_are_about(file: str) -> None:
    """Before the first named statement stand whole sentences, and nothing else."""
    before = FILES[file].partition("-- name:")[0]
    assert re.fullmatch(r"[A-Z].+\.", words(before), re.DOTALL)
    assert all(line.startswith("--") for line in before.splitlines() if line)


@pytest.mark.parametrize("name", TEXTS)
def test_a_statement_is_found_by_its_name(name: str) -> None:
    """A name stands for one statement, whether it has a file of its own or stands in one with others."""
    assert statement(name).text == TEXTS[name].strip().rstrip(";")
    assert not (FOLDER / name).with_suffix(".sql").is_file() or name in FILES
    assert not (FOLDER / name).is_dir()


@pytest.mark.parametrize(
    "name", ["batch/run/unheard_of", "batch/run", "batch", "unheard/of", "migrations/claim"]
)
def test_a_name_that_stands_for_no_statement_is_refused(name: str) -> None:
    """A name that is misspelt, that of a file of several statements and that of a folder find no statement."""
    with pytest.raises(KeyError, match="no statement"):
        statement(name)


def test_a_name_given_twice_in_a_file_is_refused() -> None:
    """Otherwise one of two statements would never run."""
    with pytest.raises(ValueError, match="named twice in one file: one"):
        sections("-- name: one\nselect 1\n-- name: two\nselect 2\n-- name: one\nselect 3")


def test_named_statements_are_parted_at_their_names() -> None:
    """Each keeps its own header; what stands before the first name belongs to none."""
    text = (
        "-- About both.\n\n-- name: one\n-- One.\nselect 1\n\n-- name: two\n-- Two.\nselect ' -- name: x'\n"
    )
    assert sections(text) == {"one": "-- One.\nselect 1", "two": "-- Two.\nselect ' -- name: x'"}
    assert sections("-- One.\nselect 1") == {}


@pytest.mark.parametrize("name", TEXTS)
def test_a_statement_is_one(name: str) -> None:
    """A statement is prepared and bound as a whole, so there is no second one behind a semicolon."""
    if not makes_tables(name):
        assert ";" not in re.sub(r"--[^\n]*|'[^']*'", "", TEXTS[name]).strip().rstrip(";")


@pytest.mark.parametrize("name", TEXTS)
async def test_a_statement_is_bound_to_a_district(prepared: Any, name: str) -> None:
    """Whatever reads or writes a table of the data model takes the district as a parameter, or says why not."""
    rows = await prepared.fetch(
        "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    body = re.sub(r"--[^\n]*|'[^']*'", "", TEXTS[name])
    tables = {row["relname"] for row in rows} & set(
        re.findall(r"\b(?:from|join|into|update)\s+(?:only\s+)?([a-z_]+)", body)
    )
    bound = "district_id" in parameters(TEXTS[name])
    assert bound or not tables or name in EVERY_DISTRICT
    assert not (bound and name in EVERY_DISTRICT)


def test_no_exception_is_left_over() -> None:
    """The lists of these tests name only statements and slots that are there."""
    assert {*PARENTS, *EVERY_DISTRICT} <= {*TEXTS}
    assert {slot for text in TEXTS.values() for slot in slots(text)} == {*FRAGMENTS}


def test_every_statement_is_used() -> None:
    """A statement that no code names is one that nobody keeps true. The graph's are found by their types."""
    code = "".join(file.read_text(encoding="utf-8") for file in (FOLDER.parent / "gql_server").rglob("*.py"))
    quoted = {*re.findall(r'"([^"\n]*)"', code), *re.findall(r"body\('([a-z/_]+)'\)", code)}
    literals = {re.sub(r"\\{.*?\\}", "[a-z_]+", re.escape(text)) for text in quoted}
    named = re.compile("|".join(literal for literal in literals if re.search(r"[a-z]", literal)))
    unused = [name for name in TEXTS if not name.startswith("graph/") and not named.fullmatch(name)]
    assert unused == []
