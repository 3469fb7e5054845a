"""Documents: parsed and validated once, and kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLBoolean,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLSchema,
    OperationDefinitionNode,
    TokenKind,
    get_nullable_type,
    is_input_object_type,
    parse,
    validate,
)
from graphql.execution.values import VariableValues

from gql_server.domain.bounded_cache import ByteBoundedCache
from gql_server.reads.selections import INTROSPECTION

_LONGEST_NUMBER = 100
_MAX_ERRORS = 5
"""Errors of one validation: each may hold, and costs, a text as long as the document."""
_BYTES_PER_CHARACTER = 130
"""What a parsed document takes in memory; measured."""
_MAX_KEPT_CHARACTERS = 20_000
"""A longer document is admitted anew each time: what is kept must have a bound."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a document. `introspects`: whether the schema itself is asked for somewhere."""

    name: str
    node: OperationDefinitionNode
    introspects: bool


@dataclass(slots=True)
class Document:
    """A document that was parsed and validated, or the errors that kept it from it."""

    text: str
    ast: DocumentNode | None
    errors: Sequence[GraphQLError]
    fragments: Mapping[str, FragmentDefinitionNode] = field(default_factory=dict)
    operations: Mapping[str, Operation] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Roughly what it takes in memory."""
        return 1_000 + _BYTES_PER_CHARACTER * len(self.text)

    def operation(self, name: str | None) -> Operation:
        """Return the operation asked for. Raises GraphQLError where it is not clear which."""
        if name:
            if name in self.operations:
                return self.operations[name]
            raise GraphQLError("The document has no operation of the name in `operationName`.")
        if len(self.operations) == 1:
            return next(iter(self.operations.values()))
        raise GraphQLError("The document must have one operation, or `operationName` must name one of them.")


class DocumentCache:
    """Parses and validates documents, and keeps the ones used last, up to a number of bytes."""

    def __init__(
        self,
        schema: GraphQLSchema,
        rules: Sequence[type[Any]],
        *,
        max_tokens: int,
        max_characters: int = 50_000,
        max_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._schema, self._rules = schema, tuple(rules)
        self._max_tokens, self._max_characters = max_tokens, max_characters
        self._documents: ByteBoundedCache[str, Document] = ByteBoundedCache(max_bytes)

    def get(self, text: str) -> Document:
        document = self._documents.get(text)
        if document is None:
            document = self._admit(text)
            if len(text) <= _MAX_KEPT_CHARACTERS:
                self._documents.put(text, document, document.bytes)
        return document

    def _admit(self, text: str) -> Document:
        if len(text) > self._max_characters:
            words = f"The document is longer than {self._max_characters} characters. Put long values into variables."
            return Document(text, None, [GraphQLError(words)])
        try:
            ast = parse(text, max_tokens=self._max_tokens, allow_empty_selection_sets=False)
            if number := _long_number(ast):
                return Document(text, None, [number])
            errors = validate(
                self._schema,
                ast,
                self._rules,
                max_errors=_MAX_ERRORS,
                hide_suggestions=True,
                allow_empty_selection_sets=False,
            )
        except GraphQLError as error:  # of the syntax, or of a rule that ends the validation
            return Document(text, None, [error])
        if errors:
            return Document(text, None, [_in_words(error) for error in errors])
        fragments = {d.name.value: d for d in ast.definitions if isinstance(d, FragmentDefinitionNode)}
        operations = {
            (d.name.value if d.name else ""): _operation(d, fragments)
            for d in ast.definitions
            if isinstance(d, OperationDefinitionNode)
        }
        return Document(text, ast, (), fragments, operations)


def _long_number(ast: DocumentNode) -> GraphQLError | None:
    """Return what is wrong with a number that Python would refuse to read, where it is met deep in graphql-core."""
    token = ast.loc.start_token if ast.loc else None
    while token is not None:
        if token.kind in (TokenKind.INT, TokenKind.FLOAT) and len(token.value or "") > _LONGEST_NUMBER:
            words = f"A number may have {_LONGEST_NUMBER} characters at most."
            return GraphQLError(words, source=ast.loc.source if ast.loc else None, positions=[token.start])
        token = token.next
    return None


def _in_words(error: GraphQLError) -> GraphQLError:
    """Return a validation's error, or one that says what to do where it gave up without saying why."""
    if error.message != "Validation aborted.":
        return error
    return GraphQLError(
        "The document is too intricate to be checked: it asks for too many fields of one name in one place, or its "
        "fragments are nested too deeply. Ask for each field once."
    )


def variable_shape(variables: VariableValues) -> object:
    """Return what of the variables the compiled text may depend on: the booleans, and which values are given.

    It follows the declared types, not the values: its size has a bound whatever is in a JSON scalar.
    """
    return tuple(
        (name, _shape(value, variables.sources[name].signature.type))
        for name, value in sorted(variables.coerced.items())
    )


def shape_bytes(shape: object) -> int:
    """Return roughly what a shape takes in memory."""
    return 100 + sum(map(shape_bytes, shape)) if isinstance(shape, tuple) else 50


def _shape(value: object, type_: GraphQLInputType) -> object:
    bare = get_nullable_type(type_)
    if value is None or (isinstance(value, bool) and bare is GraphQLBoolean):
        return value
    if not is_input_object_type(bare):
        return "given"
    parts = value if isinstance(value, dict) else vars(value)  # Strawberry makes objects of some
    return tuple((key, _shape(parts[key], kind)) for key, kind in _parts(bare) if key in parts)


def _parts(type_: GraphQLInputObjectType) -> Iterator[tuple[str, GraphQLInputType]]:
    """Yield the keys that the values of an input type have, with their types."""
    for name, part in sorted(type_.fields.items()):
        yield part.out_name or name, part.type


def _operation(node: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]) -> Operation:
    return Operation(node.name.value if node.name else "", node, _introspects(node, fragments))


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
