"""JSON that is made as text is what PostgreSQL's own functions make of the same values."""

import json
from typing import Any

import pytest
from graphql import GraphQLBoolean, GraphQLEnumType, GraphQLInt, GraphQLNonNull, GraphQLString

from gql_server.reads.json_text import json_array, json_object, json_plain, json_value, nullable_json

_ENUM = GraphQLEnumType("Method", {"TEXT": None})


@pytest.mark.parametrize(
    ("type_", "sql", "value"),
    [
        (GraphQLString, "e'a\"b\\\\c\\td\\ne\\u0001ü\\u2028😀'::text", 'a"b\\c\td\ne\x01ü\u2028😀'),
        (GraphQLString, "''::text", ""),
        (GraphQLString, "null::text", None),
        (GraphQLNonNull(GraphQLString), "date '2026-09-01'", "2026-09-01"),
        (GraphQLString, "json '[1, {\"a\": null}]'", [1, {"a": None}]),
        (GraphQLInt, "-7", -7),
        (GraphQLInt, "null::integer", None),
        (GraphQLNonNull(GraphQLBoolean), "true", True),
        (GraphQLBoolean, "false", False),
        (GraphQLBoolean, "null::boolean", None),
        (_ENUM, "'TEXT'::method", "TEXT"),
        (_ENUM, "null::method", None),
    ],
)
async def test_a_value_is_the_json_of_its_type(prepared: Any, type_: Any, sql: str, value: object) -> None:
    """A value of each kind, and none, becomes its JSON: escaped, and never a null that would vanish."""
    value_sql = json_value(f"({sql})", type_)
    text = await prepared.fetchval(f"select {json_object([('a', value_sql)])}")
    assert json.loads(text) == {"a": value}


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 120])
async def test_an_object_has_any_number_of_fields(prepared: Any, count: int) -> None:
    """An object is whole with none, one, and more fields than a function of PostgreSQL has arguments for."""
    text = await prepared.fetchval(f"select {json_object((f'k{n}', f'{n}::text') for n in range(count))}")
    assert json.loads(text) == {f"k{n}": n for n in range(count)}


@pytest.mark.parametrize(("rows", "value"), [(0, []), (3, [3, 2, 1])])
async def test_an_array_is_in_order(prepared: Any, rows: int, value: object) -> None:
    """An array has its rows in the order asked for, and is empty, or null if that is asked for, without any."""
    source = f"from generate_series(1, {rows}) as n"
    text = await prepared.fetchval(f"select {json_array('n::text', ' order by n desc')} {source}")
    assert json.loads(text) == value
    nothing = await prepared.fetchval(f"select {json_array('n::text', '', null_when_empty=True)} {source}")
    assert (nothing is None) == (rows == 0)


async def test_the_first_that_is_not_null_counts(prepared: Any) -> None:
    """Of several texts the first that is not null is taken, and JSON's null if there is none."""
    first, none = nullable_json("null", json_plain("'x'")), nullable_json("null")
    assert await prepared.fetchval(f"select {first} || {none}") == '"x"null'
