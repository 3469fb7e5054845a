"""The rulebook in `gql_server/domain/README.md` defines every rule that is cited, and a test cites every rule in it."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULEBOOK = ROOT / "gql_server" / "domain" / "README.md"
FOLDERS = (".github", "gql_server", "plugins", "sql", "tests")
SUFFIXES = frozenset({".graphql", ".md", ".py", ".sql"})
# One rule, or the first and the last of several: the number alone may stand for the last.
_CITED = re.compile(r"\bD(\d{1,2})(?:\s*[-–]\s*D?(\d{1,2}))?\b")
_DEFINED = re.compile(r"^- \*\*D(\d{1,2})\*\* ", re.MULTILINE)


def files() -> Iterator[Path]:
    """Yield the texts of the project that may cite a rule, the rulebook aside."""
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES)
    yield from (ROOT / name for name in ("README.md", "CHANGELOG.md", "schema.graphql"))


def cited(path: Path) -> set[int]:
    """Return the numbers of the rules that a file cites."""
    found = _CITED.findall(path.read_text(encoding="utf-8"))
    return {number for first, last in found for number in range(int(first), int(last or first) + 1)}


def defined() -> list[int]:
    return [int(number) for number in _DEFINED.findall(RULEBOOK.read_text(encoding="utf-8"))]


def names(rules: set[int]) -> list[str]:
    return [f"D{number}" for number in sorted(rules)]


def test_a_rule_that_is_cited_is_defined() -> None:
    """Whoever meets a rule's number in the code, the SQL, a test or a page finds its meaning in the rulebook."""
    rules = set(defined())
    unknown = {
        str(path.relative_to(ROOT)): names(cited(path) - rules) for path in files() if path != RULEBOOK
    }
    missing = {path: rules for path, rules in unknown.items() if rules}
    assert missing == {}, "define these rules in gql_server/domain/README.md, or cite others"


def test_a_rule_that_is_defined_is_proved() -> None:
    """The rulebook holds only what the product does: each rule is cited by a test."""
    proved = set().union(*(cited(path) for path in (ROOT / "tests").rglob("test_*.py")))
    unproved = names(set(defined()) - proved)
    assert unproved == [], "cite these rules in the tests that prove them, or take them out of the rulebook"


def test_a_rule_is_defined_once() -> None:
    """A number means one thing."""
    assert len(defined()) == len(set(defined())) > 20
