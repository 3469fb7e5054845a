"""Cursors of keyset connections: the keys of a row as a JSON array in base64, opaque to clients."""

import base64
import binascii
from collections.abc import Mapping, Sequence

import orjson

from gql_server.domain.channels import ContactPointKind
from gql_server.domain.limits import CURSOR
from gql_server.errors import InvalidArgument
from gql_server.reads.links import Args, ConnectionLink, Key, Params, ReadContext

_PYTHON_TYPES: Mapping[str, type] = {"bigint": int, "smallint": int, "integer": int, "boolean": bool}
_ENUMS: Mapping[str, frozenset[str]] = {"contact_point_kind": frozenset(ContactPointKind)}


def cursor_sql(alias: str, keys: Sequence[Key]) -> str:
    """Return the SQL expression for the cursor of a row."""
    columns = ", ".join(f'{alias}."{key.column}"' for key in keys)
    text = f"convert_to(json_build_array({columns})::text, 'UTF8')"
    return f"translate(encode({text}, 'base64'), E'\\n', '')"


def parse_cursor(text: str, keys: Sequence[Key]) -> list[object]:
    """Return the keys in a cursor. Raises InvalidArgument for text that no answer contained."""
    CURSOR.require_search_length(text, "after")
    try:
        values = orjson.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        values = None
    if not isinstance(values, list) or len(values) != len(keys) or not all(map(_fits, values, keys)):
        raise InvalidArgument(
            "`after` is not a cursor of this connection. Use the `endCursor` of an earlier answer."
        )
    return values


def _fits(value: object, key: Key) -> bool:
    expected = _PYTHON_TYPES.get(key.type, str)
    if type(value) is not expected:
        return False
    if isinstance(value, str):
        known = _ENUMS.get(key.type)
        return "\0" not in value if known is None else value in known
    bits = {"smallint": 15, "integer": 31}.get(key.type, 63)
    return -(1 << bits) <= int(value) < 1 << bits  # type: ignore[call-overload, no-any-return]


def page_size(first: object, default: int, maximum: int) -> int:
    """Return how many rows to give. Raises InvalidArgument outside 1 to `maximum`."""
    size = default if first is None else first
    if not isinstance(size, int) or not 1 <= size <= maximum:
        raise InvalidArgument(f"`first` must be from 1 to {maximum}.")
    return size


def page_params(link: ConnectionLink) -> Params:
    """Return the params of a connection: its own, the size of the page and the keys to begin after."""

    def params(args: Args, context: ReadContext) -> Mapping[str, object]:
        values = dict(link.params(args, context))
        longest = link.max_first or context.max_first
        values["first"] = page_size(args.get("first"), link.default_first, longest)
        after = args.get("after")
        if after is not None:
            keys = parse_cursor(str(after), link.keys)
            values.update({f"after_{n}": key for n, key in enumerate(keys)})
        return values

    return params
