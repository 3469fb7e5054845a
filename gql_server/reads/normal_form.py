"""The normal form of documents: two texts share it that differ only in layout, comments and the names of operations.

It is made from the tokens, without a parse, because a client that names its operations at random sends a new text with
each request. A text is answered as the document that was parsed for another text of the same form. So texts that mean
different things never share a form. A text for which no form is found is parsed and validated by itself.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""[ \t\n\r,\ufeff]*+(?:
      (\#[^\n\r\ud800-\udfff]*+(?![\ud800-\udfff]))
      | (\.\.\. | [!$&():=@\[\]{|}] | [A-Z_a-z][0-9A-Z_a-z]*+
        | -?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+(?![.0-9A-Z_a-z])
        | \"\"\"(?:[^"\\]++|\\\"\"\"|\\(?!\"\"\")|"(?!""))*+\"\"\"
        | ""(?!") | "(?:[^"\\\n\r]++|\\.)++")
      | \Z)""",
    re.VERBOSE,
)
"""A comment, a token, or the end, after what GraphQL ignores. Quantifiers are possessive: no text is tried twice."""
_OPERATIONS = frozenset({"query", "mutation", "subscription"})
_COMMENT = 1
_DEPTHS = {"{": 1, "(": 1, "[": 1, "}": -1, ")": -1, "]": -1}


@dataclass(frozen=True, slots=True)
class NormalForm:
    """What two texts share that mean the same.

    text: the tokens, without the names of operations.
    names: the name of each operation in order; None for one without a name.
    starts: where each of the tokens begins in the text that the form was made of. Texts of one form differ in it.
    """

    text: str
    names: tuple[str | None, ...]
    starts: Sequence[int] = field(default=(), compare=False)

    @property
    def has_valid_names(self) -> bool:
        """Whether the names differ, and an operation without a name is the only one."""
        return len(self.names) == 1 or (None not in self.names and len(set(self.names)) == len(self.names))


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int
    begins_operation: bool = False
    is_operation_name: bool = False


def normal_form(text: str, max_tokens: int) -> NormalForm | None:
    """Return the normal form of a document; None if it has none, or more than `max_tokens` tokens and comments."""
    tokens: list[str] = []
    starts = array("I")
    names: list[str | None] = []
    for token in _tokens(text, max_tokens):
        if token is None:
            return None
        if token.is_operation_name:
            names[-1] = token.text
            continue
        if token.begins_operation:
            names.append(None)
        tokens.append(token.text)
        starts.append(token.start)
    return NormalForm(" ".join(tokens), tuple(names), starts)


def _tokens(text: str, max_tokens: int) -> Iterator[_Token | None]:
    """Yield the tokens of a document; None, and then nothing, where it cannot have a normal form."""
    end = depth = count = 0
    is_at_definition, follows_keyword = True, False
    while found := _TOKEN.match(text, end):
        if found.lastindex is None:  # the end of the text
            return
        end, count = found.end(), count + 1
        if count > max_tokens:
            break
        if found.lastindex == _COMMENT:
            continue
        value = found[2]
        is_name = follows_keyword and (value[0].isalpha() or value[0] == "_")
        begins = is_at_definition and (value in _OPERATIONS or value == "{")
        follows_keyword = begins and value != "{"
        depth += _DEPTHS.get(value, 0)
        # A definition begins with its keyword or `{`, before which there may be a description, and ends with `}`.
        is_at_definition = (is_at_definition and value[0] == '"') or (depth == 0 and value == "}")
        yield _Token(value, found.start(2), begins, is_name)
    yield None
