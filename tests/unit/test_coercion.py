"""Variables are coerced as graphql-core does it, whether they are valid or not."""

from typing import Any

import pytest
from graphql import OperationDefinitionNode, parse
from graphql.execution.values import get_variable_values

from gql_server.api.coercion import coerce_variables
from gql_server.api.schema import build_schema

SCHEMA = build_schema().graphql
CELL = {"contactPoint": "EMAIL", "method": "EMAIL", "reason": "GENERAL", "on": True}
WRITE = "mutation ($input: SetPreferencesInput!) { setPreferences(input: $input) { userErrors { code } } }"
BATCH = "mutation ($input: BatchSetPreferencesInput!) { batchSetPreferences(input: $input) { userErrors { code } } }"
PEOPLE = """query ($first: Int = 3, $after: String, $filter: PersonFilter, $grade: [String!]) {
  people(first: $first, after: $after, filter: $filter) { edges { cursor } } }"""


def write(**changes: object) -> dict[str, Any]:
    """Return the variables of a write, with changes in its one cell."""
    return {"input": {"personId": "person_1", "cells": [{**CELL, **changes}]}}


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (WRITE, write()),
        (WRITE, write(on=1)),
        (WRITE, write(on=None)),
        (WRITE, write(method="FAX")),
        (WRITE, write(method=["EMAIL"])),
        (WRITE, write(reason="\n")),
        (WRITE, write(more=1)),
        (WRITE, {}),
        (WRITE, {"input": None}),
        (WRITE, {"input": []}),
        (WRITE, {"input": {"personId": 7, "cells": CELL}}),
        (WRITE, {"input": {"personId": "person_1", "cells": [None]}}),
        (WRITE, {"input": {"personId": "person_1", "cells": [], "ifRevision": 7}}),
        (WRITE, {"input": {"personId": "person_1", "cells": [CELL] * 30 + [{"on": 2}] * 30}}),
        (BATCH, {"input": {"mode": "STUDENTS", "cells": []}}),
        (BATCH, {"input": {"mode": "STUDENTS", "cells": [], "scope": {"grades": ["7"], "schoolYear": None}}}),
        (BATCH, {"input": {"mode": "STUDENTS", "cells": [], "scope": {"grades": "7"}}}),
        (PEOPLE, {}),
        (PEOPLE, {"first": None, "after": None, "unknown": 1}),
        (PEOPLE, {"first": 2**40, "filter": {"ids": ["a", None]}}),
        (PEOPLE, {"first": 2, "filter": {"search": "x"}, "grade": "7"}),
    ],
)
def test_variables_are_coerced_as_by_graphql_core(text: str, given: dict[str, Any]) -> None:
    """Values, defaults and sources are equal; so are the errors, their words and their number (D27)."""
    operation = parse(text).definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    definitions = operation.variable_definitions or ()
    expected = get_variable_values(SCHEMA, definitions, given, max_errors=20, hide_suggestions=True)
    for _ in range(2):
        found = coerce_variables(SCHEMA, definitions, given)
        assert _comparable(found) == _comparable(expected)


def _comparable(result: Any) -> object:
    if isinstance(result, list):
        return [error.message for error in result]
    sources = {name: (str(source.signature.type), source.value) for name, source in result.sources.items()}
    return sources, result.coerced
