"""Cursors of connections: the sort keys of a row as a JSON array in base64. Clients treat them as opaque."""

import base64
import binascii
from collections.abc import Mapping, Sequence

import orjson

from gql_server.domain.channels import ContactPointKind
from gql_server.domain.limits import CURSOR
from gql_server.errors import InvalidArgument
from gql_server.reads.links import Args, ConnectionLink, ParamsFunction, ReadContext, SortKey

_PYTHON_TYPES: Mapping[str, type] = {"bigint": int, "smallint": int, "integer": int, "boolean": bool}
_ENUMS: Mapping[str, frozenset[str]] = {"contact_point_kind": frozenset(ContactPointKind)}


def cursor_sql(alias: str, keys: Sequence[SortKey]) -> str:
    """Return the SQL expression for the cursor of the row with an alias."""
    columns = ", ".join(f'{alias}."{key.column}"' for key in keys)
    text = f"convert_to(json_build_array({columns})::text, 'UTF8')"
    return f"translate(encode({text}, 'base64'), E'\\n', '')"


def parse_cursor(text: str, keys: Sequence[SortKey]) -> list[object]:
    """Return the sort keys in a cursor. Raises InvalidArgument if it is not a cursor over these keys."""
    CURSOR.require_search_length(text, "after")
    try:
        values = orjson.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        values = None
    if not isinstance(values, list) or len(values) != len(keys) or not all(map(_has_type, values, keys)):
        raise InvalidArgument(
            "`after` is not a cursor of this connection. Use the `endCursor` of the page before."
        )
    return values


def _has_type(value: object, key: SortKey) -> bool:
    expected = _PYTHON_TYPES.get(key.type, str)
    if type(value) is not expected:
        return False
    if isinstance(value, str):
        labels = _ENUMS.get(key.type)
        return "\0" not in value if labels is None else value in labels
    bits = {"smallint": 15, "integer": 31}.get(key.type, 63)
    return -(1 << bits) <= int(value) < 1 << bits  # type: ignore[call-overload, no-any-return]


def page_size(first: object, default: int, maximum: int) -> int:
    """Return the number of rows of a page. Raises InvalidArgument if `first` is not from 1 to `maximum`."""
    size = default if first is None else first
    if not isinstance(size, int) or not 1 <= size <= maximum:
        raise InvalidArgument(f"`first` must be from 1 to {maximum}.")
    return size


def connection_params(link: ConnectionLink) -> ParamsFunction:
    """Return the params function of a connection: the link's own, the page size, and the sort keys of `after`."""

    def params(args: Args, context: ReadContext) -> Mapping[str, object]:
        values = dict(link.params(args, context))
        maximum = link.max_first or context.max_first
        values["first"] = page_size(args.get("first"), link.default_first, maximum)
        after = args.get("after")
        if after is not None:
            keys = parse_cursor(str(after), link.sort_keys)
            values.update({f"after_{n}": key for n, key in enumerate(keys)})
        return values

    return params
