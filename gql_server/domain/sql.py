"""SQL as a value: text with named parameters, and fragments put into slots of a larger statement.

The files of `sql/`, the fragments of plug-ins and the compiled reads all use this one notation:
`:name` is a parameter and `{name}` a slot. Values never become part of the text.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from types import MappingProxyType
from typing import TypeAlias

from gql_server.domain.bounded_cache import ByteBoundedCache

AMBIENT = frozenset({"district_id", "today"})
"""Parameters that the host gives to every fragment; a fragment may use but not set them."""

_TOKEN = re.compile(
    r"""(?P<skip>(?<![\w$])[eE]'(?:[^'\\]|''|\\.)*' | (?<!(?<![\w$])[eE])'(?:[^']|'')*' | "[^"]*"
      | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
      | --[^\n\r]* | /\*(?:(?!/\*).)*?\*/ | ::)
      | :(?P<param>[a-z_][a-z0-9_]*)
      | \{(?P<slot>[a-z_][a-z0-9_]*)\}""",
    re.VERBOSE | re.DOTALL,
)
"""Literals ('…', E'…', $$…$$), quoted names and comments are skipped. A comment in a comment is not: see `bare`."""


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL and the values of its own parameters. `:district_id` and `:today` are the host's to give."""

    text: str
    args: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def renamed(self, prefix: str) -> "Sql":
        """Return the same SQL with its own parameters prefixed, so that two fragments cannot clash."""
        return Sql(
            _renamed(self.text, prefix), {f"{prefix}__{name}": value for name, value in self.args.items()}
        )

    def fill(self, **slots: "Sql") -> "Sql":
        """Return the statement with each slot replaced by its fragment. Raises KeyError for an unfilled slot."""
        args = dict(self.args)
        for prefix, fragment in slots.items():
            args.update((f"{prefix}__{name}", value) for name, value in fragment.args.items())
        return Sql(_filled(self.text, {name: fragment.text for name, fragment in slots.items()}), args)

    def having(self, **args: object) -> "Sql":
        """Return the statement with these values added."""
        return Sql(self.text, {**self.args, **args})


def parameters(text: str) -> list[str]:
    """Return the names of the parameters in a text, in the order of their first use."""
    return list(dict.fromkeys(m["param"] for m in _TOKEN.finditer(text) if m["param"]))


def slots(text: str) -> list[str]:
    """Return the names of the slots in a text, in the order of their first use."""
    return list(dict.fromkeys(m["slot"] for m in _TOKEN.finditer(text) if m["slot"]))


def bare(text: str) -> str:
    """Return a text with its literals, quoted names and comments blanked: what is left is SQL alone.

    A quote or the beginning of a comment that is left belongs to one that does not end, or to nested comments.
    """
    return _TOKEN.sub(lambda m: m[0] if m["param"] or m["slot"] or m[0] == "::" else " " * len(m[0]), text)


def location_in(fragment: str, whole: str, position: int) -> tuple[int, int] | None:
    """Return the line and column, from 1, of a character of a statement in the fragment that it was made from.

    `whole` is the text that PostgreSQL got, in which the fragment's parameters are numbers; `position`, from 1, is
    where it found an error. None where that is outside of the fragment.
    """
    pieces = _pieces(fragment)
    pattern = "".join(r"(\$\d+)" if named else f"({re.escape(piece)})" for piece, named in pieces)
    found = re.search(pattern, whole)
    if found is None:
        return None
    begin = 0
    for number, (piece, named) in enumerate(pieces, start=1):
        first, end = found.span(number)
        if first < position <= end:
            at = begin if named else begin + position - 1 - first
            before = fragment[:at]
            return before.count("\n") + 1, at - before.rfind("\n")
        begin += len(piece)
    return None


def _pieces(text: str) -> list[tuple[str, bool]]:
    """Return the text in pieces, and of each whether it is a parameter."""
    pieces, at = [], 0
    for token in _TOKEN.finditer(text):
        if token["param"]:
            pieces += [(text[at : token.start()], False), (token[0], True)]
            at = token.end()
    return [*pieces, (text[at:], False)]


filled_texts: ByteBoundedCache[tuple[str, ...], str] = ByteBoundedCache(8 * 1024 * 1024)
"""The texts filled last, by the statement's text and the names and texts of its slots. Values are no part of them."""


def _filled(text: str, fragments: Mapping[str, str]) -> str:
    key = (text, *fragments, *fragments.values())
    filled = filled_texts.get(key)
    if filled is None:
        renamed = {name: _renamed(fragment, name) for name, fragment in fragments.items()}
        filled = _TOKEN.sub(lambda m: renamed[m["slot"]] if m["slot"] else m[0], text)
        filled_texts.put(key, filled, getsizeof(filled) + sum(map(getsizeof, key)))
    return filled


def _renamed(text: str, prefix: str) -> str:
    return _rewrite(text, lambda name: f":{name}" if name in AMBIENT else f":{prefix}__{name}")


Numbered: TypeAlias = tuple[str, tuple[str, ...]]
"""A text with `$1`, `$2`, ... and the names of its parameters in that order."""

numbered_texts: ByteBoundedCache[str, Numbered] = ByteBoundedCache(8 * 1024 * 1024)
"""The texts numbered last. Requests make them, so they are bounded in bytes."""


def numbered(text: str) -> Numbered:
    """Return the text with `:name` as `$1`, `$2`, ... and the names in that order.

    Raises ValueError where a slot was left unfilled.
    """
    kept = numbered_texts.get(text)
    if kept is None:
        kept = number(text)
        size = getsizeof(text) + getsizeof(kept[0]) + sum(getsizeof(name) for name in kept[1])
        numbered_texts.put(text, kept, size)
    return kept


def number(text: str) -> Numbered:
    """Return what `numbered` returns, and keep nothing. Raises ValueError where a slot was left unfilled."""
    if unfilled := slots(text):
        raise ValueError(f"unfilled slots: {', '.join(unfilled)}")
    names = parameters(text)
    position = {name: f"${n}" for n, name in enumerate(names, start=1)}
    return _rewrite(text, position.__getitem__), tuple(names)


def _rewrite(text: str, parameter: Callable[[str], str]) -> str:
    return _TOKEN.sub(lambda m: parameter(m["param"]) if m["param"] else m[0], text)
