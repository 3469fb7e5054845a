"""The report of an import."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Count:
    """How many records of a kind were added, changed, and found unchanged."""

    kind: str
    added: int
    changed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The counts of an import by kind of record.

    left_out: how many records were left out or changed, by cause, in words. revision: the district's revision that the
    import took (D28), None if nothing changed.
    """

    district_code: str
    counts: tuple[Count, ...]
    left_out: Mapping[str, int]
    revision: int | None

    def rows(self) -> list[tuple[str, int, int, int]]:
        """Return the rows of a table: the kind, and the numbers added, changed and unchanged."""
        return [(count.kind, count.added, count.changed, count.unchanged) for count in self.counts]
