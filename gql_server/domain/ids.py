"""Global ids: `<prefix>_<number>`. Clients must treat them as opaque."""

from enum import StrEnum

_MAX_BIGINT = 2**63 - 1


class IdKind(StrEnum):
    """The kinds of objects that have a global id. The value is the prefix of the id."""

    PERSON = "person"
    HOUSEHOLD = "household"
    SCHOOL = "school"
    BATCH_RUN = "run"
    SAVED_FILTER = "filter"
    OPT_OUT = "optout"


def encode_id(kind: IdKind, number: int) -> str:
    return f"{kind.value}_{number}"


_KINDS: dict[str, IdKind] = {kind.value: kind for kind in IdKind}


def id_kind(text: str) -> IdKind | None:
    """Return the only kind of which an object can have this id; None if there is none."""
    return _KINDS.get(text.rpartition("_")[0])


def parse_id(kind: IdKind, text: str) -> int | None:
    """Return the number in an id of that kind, or None.

    A malformed id, an id of another kind and a number out of range give None. Statements find no row for None, so
    the caller answers as for an id that does not exist.
    """
    prefix, _, digits = text.rpartition("_")
    if prefix != kind.value or not digits.isascii() or not digits.isdecimal() or len(digits) > 19:
        return None
    number = int(digits)
    canonical = encode_id(kind, number) == text
    return number if canonical and number <= _MAX_BIGINT else None
