"""Contact reasons as bits of a mask (D3, D4)."""

from collections.abc import Iterable, Mapping

ALL_REASONS = -1
"""The mask with every bit set: as a PostgreSQL bigint, all reasons that are or will be."""

MAX_REASONS = 62
"""Reasons that a district can have: the bits of a mask that are handed out."""


class ReasonBits(dict[str, int]):
    """The bit of each reason code of one district, in the matrix's order: {"EMERGENCY": 0, ...}."""

    def __init__(self, bits: Mapping[str, int]) -> None:
        super().__init__(sorted(bits.items(), key=lambda item: item[1]))

    def mask(self, codes: Iterable[str]) -> int:
        """Return the mask of the codes. Raises KeyError for a code that the district does not know."""
        mask = 0
        for code in codes:
            mask |= 1 << self[code]
        return mask

    def codes(self, mask: int) -> list[str]:
        """Return the codes whose bits are set, in the matrix's order."""
        return [code for code, bit in self.items() if mask >> bit & 1]
