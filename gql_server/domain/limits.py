"""How long texts and lists from outside may be: one table, for the API and for imports.

A text that is kept is one line without control characters. A text that is only looked for may hold any: it finds
nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gql_server.errors import InvalidArgument

# Control characters, what ends a line, and halves of surrogate pairs.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class TextLimit:
    """A kind of text, by the words that errors call it, and how many characters it has at most."""

    noun: str
    longest: int

    def excess(self, text: str) -> str | None:
        """Return in words that a text is too long, or None."""
        if len(text) <= self.longest:
            return None
        return f"{self.noun} has at most {self.longest:,} characters, and this has {len(text):,}."

    def problem(self, text: str) -> str | None:
        """Return in words why a text cannot be kept: it is too long, or not one line of plain text; or None."""
        if excess := self.excess(text):
            return excess
        if unfit := _UNFIT.search(text):
            place = f"U+{ord(unfit[0]):04X}, its character {unfit.start() + 1:,}"
            return f"{self.noun} is one line without control characters, and this holds {place}."
        return None

    def sought(self, text: str, argument: str) -> str:
        """Return a text that is looked for. Raises InvalidArgument, naming the argument, where it is too long."""
        if excess := self.excess(text):
            raise InvalidArgument(f"`{argument}`: {excess}")
        return text


GLOBAL_ID = TextLimit("An id of this API", 100)
CURSOR = TextLimit("A cursor", 8_000)
CODE = TextLimit("A code", 100)
SEARCH = TextLimit("A search", 200)
IDEMPOTENCY_KEY = TextLimit("An idempotency key", 200)
FILTER_NAME = TextLimit("The name of a filter", 100)
CRITERIA_TEXT = TextLimit("A text in criteria", 200)

TOKEN_NAME = TextLimit("A name in a token", 200)
DISTRICT_CODE = TextLimit("A district's code", 100)
UNIQUE_ID = TextLimit("An id of another system", 100)
SOURCE_ID = TextLimit("A source id", 120)
"""A unique id and, before it, what it is the id of: `student-17`, `household-17`."""
REFERENCE = TextLimit("The id of a record in a file", 200)
PERSON_NAME = TextLimit("A name of a person", 100)
INSTITUTION_NAME = TextLimit("A name of a school or another organization", 200)
LABEL = TextLimit("A label, such as a grade, a title or a kind of relationship", 100)
DESCRIPTOR = TextLimit("A descriptor", 306)
PHONE = TextLimit("A phone number", 60)
PHONE_DIGITS = 20
"""Digits of one phone number, whatever is written around them; E.164 has 15, and some dial more to get out."""
EMAIL = TextLimit("An email address", 254)

MAX_SEARCH_WORDS = 10
MAX_IDS = 1_000
MAX_SCHOOLS = 1_000
MAX_GRADES = 100
MAX_CELLS = 1_000


def list_excess(what: str, values: Sequence[object], most: int) -> str | None:
    """Return in words that a list has too many entries, or None. `what` is what the entries are: "cells"."""
    if len(values) <= most:
        return None
    return f"At most {most:,} {what} can be named at once, and these are {len(values):,}."


def search_words(text: str) -> list[str]:
    """Return the words of a search, in lower case. Raises InvalidArgument: too long, or too many words."""
    words = SEARCH.sought(text, "search").lower().split()
    if excess := list_excess("words", words, MAX_SEARCH_WORDS):
        raise InvalidArgument(f"`search`: {excess}")
    return words
