"""The statements of `sql/`: loaded by name, bound to named parameters, run on a connection.

A statement stands under a header of comments: what it is for, then `-- Parameters:` and `-- Columns:`. Its name is its
path: `batch/run/claim` is the file `sql/batch/run/claim.sql`, or the section `-- name: claim` of `sql/batch/run.sql`.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gql_server.db.protocols import Connection, Row
from gql_server.domain.sql import Sql, numbered

_PACKAGE = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"^-- name: ([a-z_]+)\n", re.MULTILINE)


def resource_folder(name: str) -> Path:
    """Return the folder `sql` or `plugins`: inside the package in a wheel, beside it in a checkout."""
    packaged = _PACKAGE / f"_{name}"
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


def sections(text: str) -> Mapping[str, str]:
    """Return the named statements of a file by their names; none where the whole file is one statement.

    What stands before the first `-- name:` is about the file. Raises ValueError for a name that is given twice.
    """
    _, *parts = _NAME.split(text)
    names = parts[::2]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"named twice in one file: {', '.join(repeated)}")
    return dict(zip(names, (part.strip() for part in parts[1::2]), strict=True))


@cache
def statement(name: str) -> Sql:
    """Return a statement by its name, such as "batch/run/claim". Raises KeyError where there is none."""
    file = resource_folder("sql") / f"{name}.sql"
    text = _read(file) if file.is_file() else _section(file)
    if text is None or sections(text):
        raise KeyError(f"sql/ holds no statement {name!r}")
    return Sql(text.strip().rstrip(";"))


def _section(file: Path) -> str | None:
    """Return the section of the file that is named like the statement's folder."""
    group = file.parent.with_suffix(".sql")
    return sections(_read(group)).get(file.stem) if group.is_file() else None


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@cache
def body(name: str) -> str:
    """Return the text of a statement without its header."""
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
