"""GraphQL documents: each is parsed and validated once, and cached.

Documents that differ only in layout, comments and the names of their operations are one document: see normal_form.py.
"""

import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLBoolean,
    GraphQLError,
    GraphQLID,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLSchema,
    OperationDefinitionNode,
    Source,
    SourceLocation,
    TokenKind,
    get_nullable_type,
    is_input_object_type,
    parse,
    validate,
)
from graphql.execution.values import VariableValues

from gql_server.domain import defaults
from gql_server.domain.bounded_cache import ByteBoundedCache
from gql_server.domain.ids import id_kind
from gql_server.reads.normal_form import NormalForm, normal_form
from gql_server.reads.selections import INTROSPECTION

_MAX_NUMBER_CHARACTERS = 100
_MAX_ERRORS = 5
"""Validation errors that are reported for one document. The text of each may be as long as the document."""
_BYTES_PER_CHARACTER = 130
"""Memory that a parsed document takes; measured."""
_MAX_CACHED_CHARACTERS = 20_000
"""A longer document is not cached, but parsed and validated for each request."""
_MAX_CHARACTERS_AT_ONCE = 5_000
"""The normal form of a longer text is made outside of the event loop. A shorter one takes less than a millisecond."""
_LINE_END = re.compile(r"\r\n|\n|\r")


class TokenizedSource(Source):
    """A text that is parsed, with the places where the tokens of its normal form begin."""

    def __init__(self, text: str, starts: Sequence[int]) -> None:
        super().__init__(text)
        self.starts = starts


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a document.

    number: its place among the operations. With the document's key it identifies the operation; its name does not.
    introspects: whether `__schema` or `__type` occurs in it or in a fragment.
    """

    number: int
    node: OperationDefinitionNode
    introspects: bool


@dataclass(slots=True)
class Document:
    """A valid document, or the errors that make it invalid.

    text: what the client sent. Several texts may share all of the rest.
    key: identifies what the text means: its normal form, or the text itself if it has none.
    operations: by their names in `text`; that of an operation without a name is empty.
    starts: where the tokens of the normal form begin in `text`.
    """

    text: str
    ast: DocumentNode | None
    errors: Sequence[GraphQLError]
    key: str = ""
    fragments: Mapping[str, FragmentDefinitionNode] = field(default_factory=dict)
    operations: Mapping[str, Operation] = field(default_factory=dict)
    starts: Sequence[int] = ()

    @property
    def bytes(self) -> int:
        """The approximate memory that it takes."""
        return 1_000 + _BYTES_PER_CHARACTER * len(self.text)

    def sent_as(self, text: str, form: NormalForm) -> "Document":
        """Return the document as another text has it, which has the same form with other names and places."""
        if text == self.text:
            return self
        operations = zip(form.names, self.operations.values(), strict=True)
        named = {name or "": operation for name, operation in operations}
        return replace(self, text=text, operations=named, starts=form.starts)

    def locations(self, errors: Iterable[GraphQLError]) -> list[Sequence[SourceLocation]]:
        """Return for each error where in `text` it is.

        It may have been found in any text of this form: what was compiled of one can outlive it in the cache.
        """
        lines: list[int] = []
        found: list[Sequence[SourceLocation]] = []
        for error in errors:
            source = error.source
            if not isinstance(source, TokenizedSource) or not error.positions or self.text == source.body:
                found.append(error.locations or ())
                continue
            lines = lines or [0, *(end.end() for end in _LINE_END.finditer(self.text))]
            tokens = (bisect_right(source.starts, position) - 1 for position in error.positions)
            found.append([_location(lines, self.starts[token]) for token in tokens])
        return found

    def single(self, operation: Operation) -> DocumentNode:
        """Return a document with one of the operations alone, and the fragments."""
        return DocumentNode(definitions=(operation.node, *self.fragments.values()))

    def operation(self, name: str | None) -> Operation:
        """Return the operation to execute, as the GraphQL specification selects it. Raises GraphQLError."""
        if name:
            if name in self.operations:
                return self.operations[name]
            raise GraphQLError("The document has no operation of the name in `operationName`.")
        if len(self.operations) == 1:
            return next(iter(self.operations.values()))
        raise GraphQLError("The document must have one operation, or `operationName` must name one of them.")


class DocumentCache:
    """Parses and validates documents, and caches the most recently used ones, up to `max_bytes`. It is thread-safe."""

    def __init__(
        self,
        schema: GraphQLSchema,
        rules: Sequence[type[Any]],
        *,
        max_tokens: int,
        max_characters: int = defaults.MAX_DOCUMENT_CHARACTERS,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._schema, self._rules = schema, tuple(rules)
        self._max_tokens, self._max_characters = max_tokens, max_characters
        self._forms: ByteBoundedCache[str, NormalForm] = ByteBoundedCache(max_bytes // 8)
        self._documents: ByteBoundedCache[str, Document] = ByteBoundedCache(max_bytes - max_bytes // 8)

    def get(self, text: str) -> Document:
        """Return a document: from the cache, or parsed and validated now."""
        if len(text) > self._max_characters:
            message = f"The document is longer than {self._max_characters} characters. Put long values into variables."
            return Document(text, None, [GraphQLError(message)])
        form = self._form(text)
        return self._cached(text, form) or self._new(text, form)

    def find(self, text: str) -> Document | None:
        """Return a document if that takes no time worth mentioning: because it, or one of its form, is cached."""
        if text not in self._forms and len(text) > min(_MAX_CHARACTERS_AT_ONCE, self._max_characters):
            return None
        return self._cached(text, self._form(text))

    def _form(self, text: str) -> NormalForm:
        """Return the normal form of a text. A text without one, or with invalid names, has a form of its own."""
        form = self._forms.get(text)
        if form is None:
            form = normal_form(text, self._max_tokens)
            if form is None or not form.has_valid_names:
                form = NormalForm(f"\0{text}", ())
            if len(text) <= _MAX_CACHED_CHARACTERS:
                self._forms.put(text, form, _form_bytes(text, form))
        return form

    def _cached(self, text: str, form: NormalForm) -> Document | None:
        document = self._documents.get(form.text)
        if document is None or text == document.text:
            return document
        # The words and the positions of a validation error are those of one text.
        return None if document.errors else document.sent_as(text, form)

    def _new(self, text: str, form: NormalForm) -> Document:
        document = self._parse_and_validate(text, form)
        document.key = form.text
        if len(text) <= _MAX_CACHED_CHARACTERS:
            self._documents.put(form.text, document, document.bytes + sys.getsizeof(form.text))
        return document

    def _parse_and_validate(self, text: str, form: NormalForm) -> Document:
        try:
            source = TokenizedSource(text, form.starts)
            ast = parse(source, max_tokens=self._max_tokens, allow_empty_selection_sets=False)
            if error := _long_number_error(ast):
                return Document(text, None, [error])
            errors = validate(
                self._schema,
                ast,
                self._rules,
                max_errors=_MAX_ERRORS,
                hide_suggestions=True,
                allow_empty_selection_sets=False,
            )
        except GraphQLError as error:  # a syntax error, or a rule that aborts the validation
            return Document(text, None, [error])
        if errors:
            return Document(text, None, [_explained(error) for error in errors])
        fragments = {d.name.value: d for d in ast.definitions if isinstance(d, FragmentDefinitionNode)}
        nodes = [d for d in ast.definitions if isinstance(d, OperationDefinitionNode)]
        operations = {
            (node.name.value if node.name else ""): Operation(number, node, _introspects(node, fragments))
            for number, node in enumerate(nodes)
        }
        return Document(text, ast, (), "", fragments, operations, form.starts)


def _location(lines: Sequence[int], position: int) -> SourceLocation:
    """Return the line and column of a position, from 1; `lines` are the positions where the lines begin."""
    line = bisect_right(lines, position)
    return SourceLocation(line, position - lines[line - 1] + 1)


def _form_bytes(text: str, form: NormalForm) -> int:
    return 500 + sys.getsizeof(text) + sys.getsizeof(form.text) + sys.getsizeof(form.starts)


def _long_number_error(ast: DocumentNode) -> GraphQLError | None:
    """Return an error if a number is too long. Python refuses to convert such numbers, which breaks graphql-core."""
    token = ast.loc.start_token if ast.loc else None
    while token is not None:
        if token.kind in (TokenKind.INT, TokenKind.FLOAT) and len(token.value or "") > _MAX_NUMBER_CHARACTERS:
            message = f"A number may have {_MAX_NUMBER_CHARACTERS} characters at most."
            return GraphQLError(message, source=ast.loc.source if ast.loc else None, positions=[token.start])
        token = token.next
    return None


def _explained(error: GraphQLError) -> GraphQLError:
    """Return a validation error; if graphql-core aborted without a reason, one that says what to do."""
    if error.message != "Validation aborted.":
        return error
    return GraphQLError(
        "The document is too complex to be validated: it selects too many fields of one name in one place, or its "
        "fragments are nested too deeply. Select each field once."
    )


def variable_shape(variables: VariableValues) -> object:
    """Return the part of the variables that a compiled statement may depend on.

    These are the values of booleans, the kinds of ids, and for all other variables whether they are given. The shape
    follows the declared types, so that its size is limited whatever a JSON scalar contains.
    """
    return tuple(
        (name, _variable_shape(value, variables.sources[name].signature.type))
        for name, value in sorted(variables.coerced.items())
    )


def shape_bytes(shape: object) -> int:
    """Return the approximate memory that a shape takes."""
    return 100 + sum(map(shape_bytes, shape)) if isinstance(shape, tuple) else 50


def _variable_shape(value: object, type_: GraphQLInputType) -> object:
    """Return the shape of a whole variable. Only of these the kind of an id counts: of ids in lists and input objects
    there can be so many that their kinds would make every request a shape of its own.
    """
    if isinstance(value, str) and get_nullable_type(type_) is GraphQLID:
        return "id", id_kind(value)
    return _shape(value, type_)


def _shape(value: object, type_: GraphQLInputType) -> object:
    nullable = get_nullable_type(type_)
    if value is None or (isinstance(value, bool) and nullable is GraphQLBoolean):
        return value
    if not is_input_object_type(nullable):
        return "given"
    fields = value if isinstance(value, dict) else vars(value)  # Strawberry converts some to objects
    return tuple((key, _shape(fields[key], type_)) for key, type_ in _input_fields(nullable) if key in fields)


def _input_fields(type_: GraphQLInputObjectType) -> Iterator[tuple[str, GraphQLInputType]]:
    """Yield the Python names of an input type's fields, with their types."""
    for name, field_ in sorted(type_.fields.items()):
        yield field_.out_name or name, field_.type


def _introspects(node: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]) -> bool:
    selections = [node.selection_set, *(fragment.selection_set for fragment in fragments.values())]
    while selections:
        for selection in selections.pop().selections:
            name = getattr(selection, "name", None)
            if name is not None and name.value in INTROSPECTION:
                return True
            if inner := getattr(selection, "selection_set", None):
                selections.append(inner)
    return False
