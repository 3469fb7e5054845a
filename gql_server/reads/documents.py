"""Documents: parsed and validated once, and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    TokenKind,
    parse,
    validate,
)
from graphql.execution.values import VariableValues

from gql_server.domain.bounded_cache import ByteBoundedCache
from gql_server.reads.selections import INTROSPECTION

_LONGEST_NUMBER = 100
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
                max_errors=20,
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
    """Return what of the variables the compiled text may depend on: the booleans, and which values are given."""
    return tuple((name, _shape(value)) for name, value in sorted(variables.coerced.items()))


def _shape(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):  # Strawberry marks enums as it marks input objects
        return "given"
    if isinstance(value, dict):
        return tuple((key, _shape(part)) for key, part in sorted(value.items()))
    if hasattr(value, "__strawberry_definition__"):
        return tuple((key, _shape(part)) for key, part in sorted(vars(value).items()))
    return "given"


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
