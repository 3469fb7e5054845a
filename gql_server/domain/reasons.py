"""Contact reasons as bits of a mask (D3, D4)."""

from collections.abc import Iterable, Mapping, Sequence

from gql_server.errors import UserError

ALL_REASONS = -1
"""The mask with every bit set, as a PostgreSQL bigint: it also covers reasons that are added later."""

MAX_REASONS = 62
"""How many reasons a district can have. A mask is a bigint; its sign bit and one more bit are not used."""


class ReasonBits(dict[str, int]):
    """The bit of each reason code of one district, in the order of the matrix: {"EMERGENCY": 0, ...}.

    `missing`: reasons of the loaded plug-ins for which the district has no bit yet. Nothing can be on for them.
    """

    def __init__(self, bits: Mapping[str, int], loaded: Iterable[str] = ()) -> None:
        super().__init__(sorted(bits.items(), key=lambda item: item[1]))
        self.missing = frozenset(loaded) - bits.keys()

    def mask(self, codes: Iterable[str]) -> int:
        """Return the mask of the codes, without missing reasons. Raises KeyError for an unknown code."""
        mask = 0
        for code in codes:
            if code not in self.missing:
                mask |= 1 << self[code]
        return mask

    def unknown(self, code: str, path: Sequence[str]) -> UserError:
        """Return the error for a code that has no bit: REASON_NOT_SET_UP or UNKNOWN_REASON."""
        if code in self.missing:
            message = (
                f"The contact reason {code} is new, and it is not set up for this district yet."
                " Ask the operator of the server to run `gql-server migrate`."
            )
            return UserError("REASON_NOT_SET_UP", message, tuple(path))
        message = f"There is no contact reason {code[:40]!r}. Use one of {', '.join(self)}."
        return UserError("UNKNOWN_REASON", message, tuple(path))

    def codes(self, mask: int) -> list[str]:
        """Return the codes whose bits are set, in the order of the matrix."""
        return [code for code, bit in self.items() if mask >> bit & 1]
