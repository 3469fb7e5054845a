"""Which days and texts are taken from outside, whoever brings them."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gql_server.domain import limits
from gql_server.domain.dates import FIRST_DAY, LAST_DAY, end_day, parse_day, start_day, start_or_end_day
from gql_server.domain.limits import TextLimit, search_words
from gql_server.errors import InvalidArgument


@given(st.dates())
def test_a_day_is_in_range_open_or_refused(day: date) -> None:
    """Every day is kept as it is, is open, or is refused: nothing else comes out (D6)."""
    for bound, opened in ((start_day, date.min), (end_day, date.max)):
        if day == opened:
            assert bound(day) is None
        elif FIRST_DAY <= day <= LAST_DAY:
            assert bound(day) == day == start_or_end_day(day)
        else:
            with pytest.raises(ValueError, match="is out of range"):
                bound(day)


@pytest.mark.parametrize("day", [FIRST_DAY, LAST_DAY])
def test_the_range_holds_its_edges(day: date) -> None:
    """The first and the last day of the range are days like others."""
    assert start_day(day) == end_day(day) == day


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20260901",
        "2026-W36-2",
        "2026-02-30",
        "2026-9-1",
        " 2026-09-01",
        "2026-09-01\n",
        "٢٠٢٦-٠٩-٠١",
        "9" * 5_000,
    ],
)
def test_a_day_has_one_spelling(text: str) -> None:
    """What is not written as 2026-09-01, or is no day, is refused in few words."""
    with pytest.raises(ValueError, match="day") as caught:
        parse_day(text)
    assert len(str(caught.value)) < 150


@given(st.text(max_size=12), st.integers(1, 10))
def test_what_a_limit_takes_can_be_kept(text: str, longest: int) -> None:
    """A text without a problem is short enough, one line, and one that PostgreSQL can hold."""
    limit = TextLimit("It", longest)
    if limit.text_error(text) is None:
        assert len(text) <= longest
        assert "\0" not in text
        assert len(text.splitlines()) <= 1
        text.encode()
    if limit.length_error(text):
        assert limit.text_error(text) == limit.length_error(text)


def test_a_search_has_bounds() -> None:
    """A search of 200 characters and ten words is taken, a longer one refused before anything is made of it."""
    assert search_words(" Ada  LANE ") == ["ada", "lane"]
    assert search_words("x" * 200) == ["x" * 200]
    for text in ("x" * 201, "a " * 11, "x" * 900_000):
        with pytest.raises(InvalidArgument, match=r"`search`: .* at most|`search`: At most"):
            search_words(text)


def test_limits_are_called_by_words() -> None:
    """Every limit of the table says what it is for and how much it takes."""
    table = [each for each in vars(limits).values() if isinstance(each, TextLimit)]
    assert len({each.noun for each in table}) == len(table)
    for each in table:
        assert f"{each.noun} has at most {each.longest:,} characters" in (
            each.length_error("x" * 9_000) or ""
        )
