"""Keyset connections over lists of rows. Cursors are the product's own: an answer must equal to the letter."""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from gql_server.domain.channels import ContactPointKind
from gql_server.errors import InvalidArgument
from tests.support.naive_rules import Eyes, Row

KINDS = list(ContactPointKind)
_TYPES = {"last_name": str, "first_name": str, "name": str, "contact_point": str, "household": bool}
"""The type of the columns of keys that are no numbers."""


def page(
    eyes: Eyes, rows: Iterable[Row], columns: str, first: int | None, after: str | None,
    *, default: int = 50, descending: bool = False, longest: int | None = None,
) -> Row:  # fmt: skip
    """Return a connection over rows that are told apart by the columns."""
    names = columns.split()
    size = default if first is None else first
    if not 1 <= size <= (longest or eyes.max_first):
        raise InvalidArgument("first")
    ordered = sorted(rows, key=lambda row: _rank(_key(row, names)), reverse=descending)
    if after is not None:
        last = _rank(_parse(after, names))
        ordered = [row for row in ordered if (_rank(_key(row, names)) < last) is descending and
                   _rank(_key(row, names)) != last]  # fmt: skip
    shown = ordered[:size]
    cursors = [_cursor(_key(row, names)) for row in shown]
    return {
        "edges": [{"cursor": cursor, "node": row} for cursor, row in zip(cursors, shown, strict=True)],
        "page_info": {
            "has_next_page": len(ordered) > size,
            "has_previous_page": after is not None,
            "start_cursor": cursors[0] if cursors else None,
            "end_cursor": cursors[-1] if cursors else None,
        },
    }


def _key(row: Row, columns: Sequence[str]) -> list[Any]:
    return [row[column] for column in columns]


def _rank(key: Sequence[Any]) -> list[Any]:
    """Return a key with its contact point by its place among the kinds."""
    return [KINDS.index(ContactPointKind(part)) if part in KINDS else part for part in key]


def _cursor(key: Sequence[Any]) -> str:
    return base64.b64encode(json.dumps(key, ensure_ascii=False).encode()).decode()


def _parse(cursor: str, columns: Sequence[str]) -> list[Any]:
    """Return the key in a cursor; one of another connection, or of none, is refused."""
    try:
        key = json.loads(base64.b64decode(cursor, validate=True))
    except ValueError:
        key = None
    if not isinstance(key, list) or [*map(type, key)] != [_TYPES.get(column, int) for column in columns]:
        raise InvalidArgument("after")
    if any(
        column == "contact_point" and part not in KINDS for column, part in zip(columns, key, strict=True)
    ):
        raise InvalidArgument("after")
    return key
