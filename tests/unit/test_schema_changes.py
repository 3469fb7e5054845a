"""The schema goes on answering the documents of clients that were written for the last release."""

import tomllib
from pathlib import Path

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    find_breaking_changes,
)
from graphql.type import is_required_argument, is_required_input_field

ROOT = Path(__file__).resolve().parents[2]
CURRENT = (ROOT / "schema.graphql").read_text(encoding="utf-8")
RELEASED = (ROOT / ".ci" / "released.graphql").read_text(encoding="utf-8")
LIST = tomllib.loads((ROOT / ".ci" / "breaking-changes.toml").read_text(encoding="utf-8"))
ACCEPTED: dict[str, list[str]] = LIST["accepted"]


def breaking_changes(old: str, new: str) -> set[str]:
    """Return what breaks documents that are valid for the old schema, in words."""
    before, after = build_schema(old), build_schema(new)
    changes = {change.description for change in find_breaking_changes(before, after)}
    return changes | newly_required(before, after)


def inputs(schema: GraphQLSchema) -> dict[str, GraphQLArgument | GraphQLInputField]:
    """Return all arguments and fields of inputs by their coordinates."""
    found: dict[str, GraphQLArgument | GraphQLInputField] = {}
    for name, kind in schema.type_map.items():
        if isinstance(kind, GraphQLInputObjectType):
            found |= {f"{name}.{field}": value for field, value in kind.fields.items()}
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for field, value in kind.fields.items():
                found |= {f"{name}.{field}({arg}:)": each for arg, each in value.args.items()}
    return found


def must_give(value: GraphQLArgument | GraphQLInputField) -> bool:
    required = is_required_input_field if isinstance(value, GraphQLInputField) else is_required_argument
    return bool(required(value))


def newly_required(before: GraphQLSchema, after: GraphQLSchema) -> set[str]:
    """Return in words which inputs must be given now, because their default is gone or only one may be given.

    graphql-core's comparison looks at types alone.
    """
    old, words = inputs(before), set()
    for name, value in inputs(after).items():
        earlier = old.get(name)
        # Another type is found already.
        if (
            earlier is not None
            and str(earlier.type) == str(value.type)
            and must_give(value) > must_give(earlier)
        ):
            words.add(f"{name} lost its default, and must be given.")
    for name, kind in after.type_map.items():
        earlier_kind = before.type_map.get(name)
        if getattr(kind, "is_one_of", False) and not getattr(earlier_kind, "is_one_of", True):
            words.add(f"Input {name} takes exactly one of its fields now.")
    return words


def parsed(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def test_nothing_breaks_that_is_not_accepted() -> None:
    """Every breaking change since the last release stands in .ci/breaking-changes.toml, and nothing else does."""
    accepted = {description for descriptions in ACCEPTED.values() for description in descriptions}
    found = breaking_changes(RELEASED, CURRENT)
    assert found - accepted == set(), "deprecate instead, or accept it in .ci/breaking-changes.toml"
    assert accepted - found == set(), "accepted in .ci/breaking-changes.toml, but there is no such change"


def test_what_is_accepted_comes_with_a_newer_version() -> None:
    """A breaking change is accepted for a version that comes after the release it breaks with."""
    early = [version for version in ACCEPTED if parsed(version) <= parsed(LIST["released"])]
    assert early == [], f"{LIST['released']} is released: accept under the version that is to come"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("type Query { a: Int b: Int }", "type Query { a: Int }", "Field Query.b was removed."),
        ("type Query { a: Int! }", "type Query { a: Int }", "Field Query.a changed type from Int! to Int."),
        (
            "type Query { a: Int }",
            "type Query { a(b: Int!): Int }",
            "A required argument Query.a(b:) was added.",
        ),
        (
            "type Query { a(b: Int! = 1): Int }",
            "type Query { a(b: Int!): Int }",
            "Query.a(b:) lost its default, and must be given.",
        ),
        (
            "type Query { a(b: B): Int } input B { c: Int! = 1 }",
            "type Query { a(b: B): Int } input B { c: Int! }",
            "B.c lost its default, and must be given.",
        ),
        (
            "type Query { a(b: B): Int } input B { c: Int d: Int }",
            "type Query { a(b: B): Int } input B @oneOf { c: Int d: Int }",
            "Input B takes exactly one of its fields now.",
        ),
    ],
)
def test_the_comparison_sees_what_breaks(old: str, new: str, words: str) -> None:
    """A field that goes, one that may become null, and what must be given now are breaking changes."""
    assert breaking_changes(old, new) == {words}
    assert breaking_changes(new, new) == set()
