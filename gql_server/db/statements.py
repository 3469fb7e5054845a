"""The statements of `sql/`: loaded by name, bound to named parameters, run on a connection.

A file holds one statement under a header of comments: what it is for, then `-- Parameters:` and `-- Columns:`.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gql_server.db.protocols import Connection, Row
from gql_server.domain.sql import Sql, numbered

_PACKAGE = Path(__file__).resolve().parent.parent


def resource_folder(name: str) -> Path:
    """Return the folder `sql` or `plugins`: inside the package in a wheel, beside it in a checkout."""
    packaged = _PACKAGE / f"_{name}"
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


@cache
def statement(name: str) -> Sql:
    """Return the statement of a file, such as "batch/claim". Raises FileNotFoundError."""
    return Sql((resource_folder("sql") / f"{name}.sql").read_text(encoding="utf-8").strip().rstrip(";"))


@cache
def body(name: str) -> str:
    """Return the text of a file of `sql/` without its header."""
    return "\n".join(line for line in statement(name).text.splitlines() if not line.startswith("--"))


def bind(sql: Sql, **args: object) -> tuple[str, list[object]]:
    """Return asyncpg's form of a statement: text with `$1`, and the arguments in order.

    Raises KeyError for a parameter without a value.
    """
    text, names = numbered(sql.text)
    values = {**sql.args, **args}
    return text, [values[name] for name in names]


def resolve(query: Sql | str) -> Sql:
    return statement(query) if isinstance(query, str) else query


async def fetch(conn: Connection, query: Sql | str, **args: object) -> Sequence[Row]:
    """Return the rows of a statement, given by its name in `sql/` or as a composed `Sql`."""
    text, values = bind(resolve(query), **args)
    return await conn.fetch(text, *values)


async def fetchrow(conn: Connection, query: Sql | str, **args: object) -> Row | None:
    """Return the first row of a statement, or None."""
    text, values = bind(resolve(query), **args)
    return await conn.fetchrow(text, *values)


async def fetchval(conn: Connection, query: Sql | str, **args: object) -> Any:
    """Return the first column of the first row of a statement, or None."""
    text, values = bind(resolve(query), **args)
    return await conn.fetchval(text, *values)


async def execute(conn: Connection, query: Sql | str, **args: object) -> int:
    """Run a statement and return how many rows it touched (0 for statements that touch none)."""
    text, values = bind(resolve(query), **args)
    status = await conn.execute(text, *values)
    count = status.rpartition(" ")[2]
    return int(count) if count.isdecimal() else 0
