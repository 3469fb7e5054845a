"""Reads the records of an interchange file one by one, so that memory does not grow with the file."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from gql_server.domain.limits import REFERENCE, TextLimit
from gql_server.errors import ImportFailed

_CHUNK = 1 << 16
_MAX_ELEMENTS = 20_000
"""Elements in one record. Real records have about a hundred; a record without end must not fill the memory."""
_MAX_CHARACTERS = 1_000_000
"""Characters in one record, including its attributes."""
_MAX_TOKEN = 1 << 20
"""Bytes of one tag or comment. The parser keeps it in memory until it is complete."""
_MAX_DEPTH = 100


@dataclass(slots=True)
class Element:
    """An XML element without its namespace, and the file and line where it begins."""

    tag: str
    file: str
    line: int
    attributes: dict[str, str]
    children: list["Element"] = field(default_factory=list)
    content: str = ""

    def all(self, tag: str) -> list["Element"]:
        """Return the children with that tag, in the order of the file."""
        return [child for child in self.children if child.tag == tag]

    def find(self, *path: str) -> "Element | None":
        """Return the first element at a path of tags, or None."""
        found: Element | None = self
        for tag in path:
            found = next((child for child in found.children if child.tag == tag), None) if found else None
        return found

    def text(self, *path: str, limit: TextLimit | None = None) -> str | None:
        """Return the trimmed text at a path of tags, or None if it is missing or blank.

        A text that will be stored has a limit. Raises ImportFailed, with the line of the text, if it exceeds the limit.
        """
        found = self.find(*path)
        return (found.require_valid(found.content.strip(), limit) or None) if found else None

    def attribute(self, name: str) -> str | None:
        """Return an attribute that names a record, `id` or `ref`, or None if it is missing or empty."""
        return self.require_valid(self.attributes.get(name, ""), REFERENCE) or None

    def require_valid(self, text: str, limit: TextLimit | None) -> str:
        """Return a text of this element. Raises ImportFailed if it cannot be stored."""
        if limit is not None and (problem := limit.text_error(text)):
            raise self.failed(f"the {self.tag}: {problem}")
        return text

    def required(self, *path: str, limit: TextLimit | None = None) -> str:
        """Return the text at a path of tags. Raises ImportFailed if it is missing, and as `text` does."""
        value = self.text(*path, limit=limit)
        if value is None:
            raise self.failed(f"the {self.tag} lacks its {'/'.join(path)}.")
        return value

    def failed(self, problem: str) -> ImportFailed:
        """Return an ImportFailed with this element's file and line."""
        return ImportFailed(self.file, self.line, problem)


def read_records(path: Path, tags: frozenset[str]) -> Iterator[Element]:
    """Yield the top-level records with those tags in the order of the file, and skip all others.

    Raises ImportFailed, with the line, for a file that is not XML, for another kind of interchange, for an entity
    declaration (entities are never expanded or fetched), and for a record that is too large.
    """
    reader = _Reader(path, tags)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                reader.parse(chunk)
                yield from reader.take_records()
            reader.parser.Parse(b"", True)
            yield from reader.take_records()
    except expat.ExpatError as error:
        problem = f"the XML is broken: {expat.ErrorString(error.code)}."
        raise ImportFailed(path.name, error.lineno, problem) from None
    except OSError as error:
        raise ImportFailed(path.name, None, f"the file cannot be read: {error.strerror}.") from None
    except (ValueError, LookupError):
        problem = "the file is in an encoding that is not known here. Save it as UTF-8."
        raise ImportFailed(path.name, None, problem) from None


class _Reader:
    """The state of parsing one file: the record that is being built, and the complete ones."""

    def __init__(self, path: Path, tags: frozenset[str]) -> None:
        self._file, self._tags, self._root = path.name, tags, f"Interchange{path.stem}"
        self._open: list[Element] = []
        self._depth = 0
        self._elements = 0
        self._characters = 0
        self._bytes = 0
        self._text: list[str] = []
        self._complete: list[Element] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters_read
        self.parser.EntityDeclHandler = self._entity

    def parse(self, chunk: bytes) -> None:
        """Parse the next chunk. Raises ImportFailed, ExpatError; for an unknown encoding ValueError or LookupError."""
        self._bytes += len(chunk)
        self.parser.Parse(chunk, False)
        if self._bytes - self.parser.CurrentByteIndex > _MAX_TOKEN + _CHUNK:
            raise self._failed(f"a tag, comment or the like is longer than {_MAX_TOKEN:,} bytes.")

    def take_records(self) -> list[Element]:
        """Return the records that are complete, and remove them."""
        records, self._complete = self._complete, []
        return records

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(":")[2]
        self._depth += 1
        self._text.clear()
        if self._depth == 1 and tag != self._root:
            raise self._failed(f"the file holds <{tag[:40]}>, not <{self._root}>.")
        if self._depth > _MAX_DEPTH:
            raise self._failed(f"elements are nested more than {_MAX_DEPTH} deep.")
        if self._open or (self._depth == 2 and tag in self._tags):
            if not self._open:
                self._elements = self._characters = 0
            self._elements += 1
            if self._elements > _MAX_ELEMENTS:
                raise self._failed(f"a record has more than {_MAX_ELEMENTS} elements.")
            self._count(sum(len(key) + len(value) for key, value in attributes.items()))
            self._open.append(Element(tag, self._file, self.parser.CurrentLineNumber, attributes))

    def _characters_read(self, text: str) -> None:
        if self._open:
            self._text.append(text)
            self._count(len(text))

    def _count(self, characters: int) -> None:
        self._characters += characters
        if self._characters > _MAX_CHARACTERS:
            raise self._failed(f"a record has more than {_MAX_CHARACTERS:,} characters.")

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._open:
            element = self._open.pop()
            if not element.children:
                element.content = "".join(self._text)
            (self._open[-1].children if self._open else self._complete).append(element)
        self._text.clear()

    def _entity(self, name: str, *_: object) -> None:
        raise self._failed(
            "the file declares an entity. Declarations of entities are refused; write the text out."
        )

    def _failed(self, problem: str) -> ImportFailed:
        return ImportFailed(self._file, self.parser.CurrentLineNumber, problem)
