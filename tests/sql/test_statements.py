"""Every statement of sql/ is one that the migrated database understands, under a header that tells the truth."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gql_server.db.pool import connect
from gql_server.db.statements import resource_folder
from gql_server.domain.sql import AMBIENT, Sql, numbered, parameters, slots

FOLDER = resource_folder("sql")
FILES = sorted(
    file.relative_to(FOLDER).with_suffix("").as_posix()
    for file in FOLDER.rglob("*.sql")
    if file.parent.name != "migrations"
)
TEXTS = {name: (FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in FILES}

DENIALS = (
    "select household, subject_id, contact_point, method, -1::bigint as reasons, null::text as because"
    " from candidate c"
)
TARGET = (
    "select 1::bigint as subject_id, 'EMAIL'::contact_point_kind as contact_point, 'EMAIL'::method as method,"
    " 1::bigint as on_mask, 0::bigint as off_mask, 0::bigint as skip_if_chosen, 0::bigint as mark_as_chosen"
)
WEIGHED = f"select false as household, t.* from ({TARGET}) t"
DECIDED = f"select w.*, 0::bigint as flipped, 0::bigint as kept from ({WEIGHED}) w"
HELD = f"select t.*, 0::bigint as reasons_on, 0::bigint as reasons_chosen from ({TARGET}) t"
FRAGMENTS = {
    "barred_by": "null::smallint",
    "because": "null::text",
    "counts": "batch_cell",
    "changed": "select 1::bigint as household_id, 1::bigint as reasons",
    "decided": DECIDED,
    "denies": DENIALS,
    "held": HELD,
    "key": "g.grade",
    "population": "select p.person_id from person p where p.district_id = :district_id",
    "subject": "person_id",
    "table": "preference",
    "target": TARGET,
    "parent": "parent",
    "weighed": WEIGHED,
}
"""What stands in for each slot; a new slot needs a line here."""

PARENTS = {
    "graph/batch_cell_option": "select null::bigint[] as reachable, 0::bigint as population",
    "graph/turned_on_cell": "select c.*, c.turned_on as turned_on_mask from change c",
    "graph/turned_off_cell": "select c.*, c.turned_off as turned_off_mask from change c",
}
"""The rows that correlated statements are correlated to."""

EVERY_DISTRICT = {
    "batch/claim": "a worker takes the next run of any district",
    "batch/sweep": "a worker tidies up after runs of any district",
    "batch/sweep_keys": "a worker tidies up after calls to any district",
    "batch/sweep_plans": "a worker tidies up after plans of any district",
    "district/create": "there is no district yet",
    "district/find": "a token names the district by its code",
    "district/lock_lacking": "a server looks after all districts",
    "district/missing_reasons": "a server looks after all districts",
    "district/register_reasons": "a server looks after all districts",
}
"""The statements that are not bound to one district, and why."""


def header(name: str) -> str:
    """Return the comment at the head of a file, without the dashes."""
    lines = []
    for line in TEXTS[name].splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return "\n".join(lines)


def listed(name: str, what: str) -> list[str] | None:
    """Return the names under a heading of the header, without what stands in brackets; None without the heading."""
    found = re.search(rf"^{what}:((?:(?!^\w+:).)*)", header(name), re.DOTALL | re.MULTILINE)
    if not found:
        return None
    names = [part.strip() for part in re.sub(r"\([^)]*\)", "", found[1]).split(",")]
    return [] if names == ["none"] else names


def makes_tables(name: str) -> bool:
    body = "\n".join(line for line in TEXTS[name].splitlines() if not line.startswith("--"))
    return re.match(r"\s*(create temp|do \$\$)", body) is not None


def complete(name: str) -> str:
    """Return a statement as PostgreSQL gets it: slots filled, a compiled read's head before it, `$1` for names."""
    filled = Sql(TEXTS[name].strip())
    filled = filled.fill(**{slot: Sql(FRAGMENTS[slot]) for slot in slots(filled.text)})
    text = re.sub(r":viewer_role\b", "'ADMIN'", filled.text)
    if name in PARENTS:
        text = f"select x.* from ({PARENTS[name]}) parent cross join lateral (\n{text}\n) x"
    if name.startswith("graph/"):
        head = re.sub(r":viewer_role\b", "'ADMIN'", TEXTS["read/viewer"])
        text = f"{head}\nselect * from (\n{text}\n) x".replace(":viewer_person_id", "null::bigint")
    if name == "read/viewer":
        text += "\nselect from viewer"
    return numbered(text)[0]


@pytest.fixture(scope="module")
async def conn(server_dsn: str, template: str) -> AsyncIterator[Any]:
    """A connection to a migrated database, with the temporary tables of all statements."""
    async with connect(server_dsn.format(database="postgres")) as admin:
        await admin.execute(f'create database "test_statements" template "{template}"')
    async with connect(server_dsn.format(database="test_statements")) as conn, conn.transaction():
        for name in sorted(filter(makes_tables, FILES), key=lambda name: "create temp view" in TEXTS[name]):
            await conn.execute(TEXTS[name])
        yield conn


@pytest.mark.parametrize("name", [name for name in FILES if not makes_tables(name)])
async def test_a_statement_prepares_and_its_columns_are_as_told(conn: Any, name: str) -> None:
    """PostgreSQL finds every table, column and type of the statement; what it returns is what the header lists."""
    async with conn.transaction():
        prepared = await conn.prepare(complete(name))
    columns = [attribute.name for attribute in prepared.get_attributes() if attribute.type.name != "void"]
    if name != "read/viewer":
        assert sorted(listed(name, "Columns") or []) == sorted(columns)


@pytest.mark.parametrize("name", FILES)
def test_a_header_says_what_the_statement_is_for_and_takes(name: str) -> None:
    """The header begins with words, ends them with a full stop, and lists the parameters that are there."""
    words = re.split(r"^(?:Parameters|Columns):", header(name), flags=re.MULTILINE)[0].strip()
    assert re.fullmatch(r"[A-Z].+\.", words, re.DOTALL)
    told, own = set(listed(name, "Parameters") or []), set(parameters(TEXTS[name]))
    filled_in = AMBIENT if slots(TEXTS[name]) else set()  # a fragment may take what the statement does not
    assert own <= told <= own | filled_in


@pytest.mark.parametrize("name", FILES)
def test_a_file_holds_one_statement(name: str) -> None:
    """A statement is prepared and bound as a whole, so there is no second one behind a semicolon."""
    if not makes_tables(name):
        assert ";" not in re.sub(r"--[^\n]*|'[^']*'", "", TEXTS[name]).strip().rstrip(";")


@pytest.mark.parametrize("name", FILES)
async def test_a_statement_is_bound_to_a_district(conn: Any, name: str) -> None:
    """Whatever reads or writes a table of the data model takes the district as a parameter, or says why not."""
    rows = await conn.fetch(
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
    """The lists of this file name only files that are there."""
    assert {*PARENTS, *EVERY_DISTRICT} <= {*FILES}
    assert {slot for name in FILES for slot in slots(TEXTS[name])} == {*FRAGMENTS}


def test_every_statement_is_used() -> None:
    """A file that no code names is a file that nobody keeps true. The graph's are found by their types."""
    code = "".join(file.read_text(encoding="utf-8") for file in (FOLDER.parent / "gql_server").rglob("*.py"))
    literals = {re.sub(r"\\{.*?\\}", "[a-z_]+", re.escape(text)) for text in re.findall(r'"([^"\n]*)"', code)}
    named = re.compile("|".join(literal for literal in literals if re.search(r"[a-z]", literal)))
    unused = [
        name
        for name in FILES
        if not name.startswith("graph/")
        and not any(named.fullmatch(spelling) for spelling in (name, name.partition("/")[2]))
    ]
    assert unused == []
