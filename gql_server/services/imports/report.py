"""What an import did, in counts."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Count:
    """How many of a kind were new, were changed, and were as they should be already."""

    kind: str
    added: int
    changed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What came in, by kind, and what was left out or taken as something else, the reason in the key's words.

    `revision` is the district's revision that the import made (D28), None where it changed nothing.
    """

    district_code: str
    counts: tuple[Count, ...]
    left_out: Mapping[str, int]
    revision: int | None

    def rows(self) -> list[tuple[str, int, int, int]]:
        """Return the rows of a table: the kind, and how many were new, changed and unchanged."""
        return [(count.kind, count.added, count.changed, count.unchanged) for count in self.counts]
