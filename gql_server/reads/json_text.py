"""SQL expressions that make JSON as text.

The functions that PostgreSQL has for it look up the type of each key and each value every time they are called, which
takes longer than writing them. A text with the keys in it needs that for no key, and only for the values that have to
be escaped. Each expression is a text of valid JSON that is never null, because a null would vanish from the text that
it becomes a part of. Only where it is said, an expression may be null.
"""

from collections.abc import Iterable

from graphql import GraphQLBoolean, GraphQLInt, GraphQLOutputType, get_nullable_type, is_enum_type

JSON_NULL = "'null'"
_MOST_ARGUMENTS = 99
"""PostgreSQL passes at most 100 arguments to a function."""


def json_object(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the object with these keys, which are names, and the JSON of their values."""
    pieces: list[str] = []
    before = "{"
    for key, value in pairs:
        pieces += [f"'{before}\"{key}\":'", value]
        before = ","
    return _concat([*pieces, "'}'"]) if pieces else "'{}'"


def json_array(json: str, order: str, where: str = "", *, null_when_empty: bool = False) -> str:
    """Return the array of the JSON of all rows, or of those where a condition holds; null only if that is asked for."""
    filtered = f" filter (where {where})" if where else ""
    array = f"'[' || string_agg({json}, ','{order}){filtered} || ']'"
    return array if null_when_empty else f"coalesce({array}, '[]')"


def json_value(sql: str, type_: GraphQLOutputType) -> str:
    """Return the JSON of a column, or of an expression in parentheses, for a field of this type. It may be null."""
    nullable = get_nullable_type(type_)
    if is_enum_type(nullable):
        return json_plain(f"{sql}::text")
    is_number = nullable is GraphQLInt or nullable is GraphQLBoolean
    return nullable_json(f"{sql}::text" if is_number else f"to_json({sql})::text")


def json_plain(sql: str) -> str:
    """Return the JSON of a text without any character that JSON escapes."""
    return nullable_json(f"'\"' || {sql} || '\"'")


def json_name(name: str) -> str:
    """Return the JSON of a name of GraphQL."""
    return f"'\"{name}\"'"


def nullable_json(*expressions: str) -> str:
    """Return the first of these texts of JSON that is not null; the JSON null if all of them are."""
    return f"coalesce({', '.join(expressions)}, {JSON_NULL})"


def _concat(pieces: list[str]) -> str:
    if len(pieces) <= _MOST_ARGUMENTS:
        return f"concat({', '.join(pieces)})"
    return f"concat({_concat(pieces[:_MOST_ARGUMENTS])}, {_concat(pieces[_MOST_ARGUMENTS:])})"
