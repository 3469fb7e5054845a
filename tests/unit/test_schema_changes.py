"""The schema goes on answering the documents of clients that were written for the last release."""

import tomllib
from pathlib import Path

import pytest
from graphql import build_schema, find_breaking_changes

ROOT = Path(__file__).resolve().parents[2]
CURRENT = (ROOT / "schema.graphql").read_text(encoding="utf-8")
RELEASED = (ROOT / ".ci" / "released.graphql").read_text(encoding="utf-8")
LIST = tomllib.loads((ROOT / ".ci" / "breaking-changes.toml").read_text(encoding="utf-8"))
ACCEPTED: dict[str, list[str]] = LIST["accepted"]


def breaking_changes(old: str, new: str) -> set[str]:
    """Return what breaks documents that are valid for the old schema, in words."""
    changes = find_breaking_changes(build_schema(old), build_schema(new))
    return {change.description for change in changes}


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
    assert all(parsed(version) > parsed(LIST["released"]) for version in ACCEPTED)


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
    ],
)
def test_the_comparison_sees_what_breaks(old: str, new: str, words: str) -> None:
    """A field that goes, one that may become null, and an argument that must be given are breaking changes."""
    assert breaking_changes(old, new) == {words}
    assert breaking_changes(new, new) == set()
