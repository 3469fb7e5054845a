"""Limits for the texts and lists that the API and imports accept.

A text that is stored must be one line without control characters. A search text may contain any characters; it is only
limited in length.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gql_server.errors import InvalidArgument

# Control characters, line separators, and halves of surrogate pairs.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class TextLimit:
    """The limit of one kind of text. `noun`: how error messages name it. `longest`: its maximum of characters."""

    noun: str
    longest: int

    def length_error(self, text: str) -> str | None:
        """Return an error message if a text is too long, otherwise None."""
        if len(text) <= self.longest:
            return None
        return f"{self.noun} has at most {self.longest:,} characters, and this has {len(text):,}."

    def text_error(self, text: str) -> str | None:
        """Return an error message if a text cannot be stored: too long, or not one plain line. Otherwise None."""
        if message := self.length_error(text):
            return message
        if match := _FORBIDDEN.search(text):
            character = f"U+{ord(match[0]):04X}, its character {match.start() + 1:,}"
            return f"{self.noun} is one line without control characters, and this contains {character}."
        return None

    def require_search_length(self, text: str, argument: str) -> str:
        """Return a search text. Raises InvalidArgument, naming the argument, if it is too long."""
        if message := self.length_error(text):
            raise InvalidArgument(f"`{argument}`: {message}")
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
"""A unique id with a prefix for the kind of record: `student-17`, `household-17`."""
REFERENCE = TextLimit("The id of a record in a file", 200)
PERSON_NAME = TextLimit("A name of a person", 100)
INSTITUTION_NAME = TextLimit("A name of a school or another organization", 200)
LABEL = TextLimit("A label, such as a grade, a title or a kind of relationship", 100)
DESCRIPTOR = TextLimit("A descriptor", 306)
PHONE = TextLimit("A phone number", 60)
PHONE_DIGITS = 20
"""Digits of one phone number. E.164 allows 15, and some numbers include a prefix for an outside line."""
EMAIL = TextLimit("An email address", 254)

MAX_SEARCH_WORDS = 10
MAX_IDS = 1_000
MAX_SCHOOLS = 1_000
MAX_GRADES = 100
MAX_CELLS = 1_000
MAX_SAVED_FILTERS = 200
"""Saved filters of one district: `savedFilters` lists them all."""


def count_error(what: str, values: Sequence[object], most: int) -> str | None:
    """Return an error message if a list has too many entries, otherwise None. `what`: their noun, such as "cells"."""
    if len(values) <= most:
        return None
    return f"At most {most:,} {what} can be named at once, and these are {len(values):,}."


def search_words(text: str) -> list[str]:
    """Return the words of a search in lower case. Raises InvalidArgument if they are too long or too many."""
    words = SEARCH.require_search_length(text, "search").lower().split()
    if message := count_error("words", words, MAX_SEARCH_WORDS):
        raise InvalidArgument(f"`search`: {message}")
    return words
