"""Global ids lead back to what they name, and to nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gql_server.domain.ids import IdKind, encode_id, parse_id

KINDS = st.sampled_from(IdKind)
NUMBERS = st.integers(0, 2**63 - 1)


@given(kind=KINDS, number=NUMBERS)
def test_an_id_leads_back_to_its_number(kind: IdKind, number: int) -> None:
    """Every number that PostgreSQL can give out survives."""
    assert parse_id(kind, encode_id(kind, number)) == number


@given(kind=KINDS, other=KINDS, number=NUMBERS)
def test_an_id_of_another_kind_leads_nowhere(kind: IdKind, other: IdKind, number: int) -> None:
    """A person's id given where a school's is wanted finds nothing."""
    if kind is not other:
        assert parse_id(kind, encode_id(other, number)) is None


@given(kind=KINDS, text=st.text() | st.from_regex(r"[a-z]*_?[-+ 0-9]*"))
def test_a_text_is_an_id_only_in_its_one_spelling(kind: IdKind, text: str) -> None:
    """Whatever is taken for an id is written exactly as we write it, so that one thing has one id."""
    number = parse_id(kind, text)
    assert number is None or (encode_id(kind, number) == text and 0 <= number < 2**63)


@pytest.mark.parametrize(
    "text",
    [
        "", "_", "person", "person_", "_1", "person_-1", "person_+1", "person_01", "person_1 ", " person_1",
        "Person_1", "person_1_", "person_１", "person_²", "person_1e3", "person_1\0", "person__1",
        "person_9223372036854775808", "person_" + "9" * 400, "school_person_1",
    ],
)  # fmt: skip
def test_malformed_ids_lead_nowhere(text: str) -> None:
    """Other spellings, other digits, numbers out of range: all the same None as an id that does not exist."""
    assert parse_id(IdKind.PERSON, text) is None
