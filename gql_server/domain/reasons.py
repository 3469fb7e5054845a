"""Contact reasons as bits of a mask (D3, D4)."""

from collections.abc import Iterable, Mapping, Sequence

from gql_server.errors import UserError

ALL_REASONS = -1
"""The mask with every bit set: as a PostgreSQL bigint, all reasons that are or will be."""

MAX_REASONS = 62
"""Reasons that a district can have: bits of a bigint, of which the sign and one more stay free."""


class ReasonBits(dict[str, int]):
    """The bit of each reason code of one district, in the matrix's order: {"EMERGENCY": 0, ...}.

    `lacking` are reasons of loaded plug-ins that the district has no bit for yet, so that nothing can be on there.
    """

    def __init__(self, bits: Mapping[str, int], loaded: Iterable[str] = ()) -> None:
        super().__init__(sorted(bits.items(), key=lambda item: item[1]))
        self.lacking = frozenset(loaded) - bits.keys()

    def mask(self, codes: Iterable[str]) -> int:
        """Return the mask of the codes, without those lacking. Raises KeyError for a code that nobody knows."""
        mask = 0
        for code in codes:
            if code not in self.lacking:
                mask |= 1 << self[code]
        return mask

    def unknown(self, code: str, path: Sequence[str]) -> UserError:
        """Return what is wrong with a code that has no bit: REASON_NOT_SET_UP or UNKNOWN_REASON."""
        if code in self.lacking:
            words = (
                f"The contact reason {code} is new here, and this district has no place for it yet."
                " Ask whoever runs the server to run `gql-server migrate`."
            )
            return UserError("REASON_NOT_SET_UP", words, tuple(path))
        words = f"There is no contact reason {code[:40]!r}. Use one of {', '.join(self)}."
        return UserError("UNKNOWN_REASON", words, tuple(path))

    def codes(self, mask: int) -> list[str]:
        """Return the codes whose bits are set, in the matrix's order."""
        return [code for code, bit in self.items() if mask >> bit & 1]
