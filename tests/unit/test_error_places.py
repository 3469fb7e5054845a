"""Where an error is told to be: in the text that its sender sent."""

from collections.abc import Iterator

import pytest
from graphql.execution.values import VariableValues

from gql_server.api.document_limits import validation_rules
from gql_server.api.errors import graphql_error_entries
from gql_server.api.schema import build_schema
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.reads import normal_form
from gql_server.reads.documents import DocumentCache
from gql_server.reads.executor import ReadExecutor
from gql_server.reads.links import ReadContext, ReadLimits

SCHEMA = build_schema()
LONG = "# another layout\n\n\n{ headRevision\n\n    batchRuns(first: 1) { edges { node { id } } } }"
SHORT = "{ headRevision batchRuns(first: 1) { edges { node { id } } } }"


def guardian() -> ReadContext:
    viewer = Viewer(District(1, "maple", "UTC"), Role.GUARDIAN, "P1")
    return ReadContext(viewer, None, None, ReadLimits())  # type: ignore[arg-type]


def test_an_error_that_outlived_its_document_is_told_in_the_senders_text() -> None:
    """What was compiled of a text is used for others of its form, also after the text itself has left the cache; the
    line and column of a refused field are those of the text that was sent."""
    reads, context = ReadExecutor(SCHEMA.graphql, SCHEMA.links), guardian()
    for text, line, column in ((LONG, 6, 5), (SHORT, 1, 16)):
        cache = DocumentCache(
            SCHEMA.graphql, validation_rules(20, 15), max_tokens=1_000
        )  # holds no other text
        document = cache.get(text)
        compiled = reads.compile(document, document.operation(None), VariableValues({}, {}), context)
        [entry] = graphql_error_entries(compiled.errors, "FORBIDDEN", document)
        assert entry["locations"] == [{"line": line, "column": column}]


def test_the_places_of_many_errors_take_no_further_pass_over_the_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each text that is sent is split into tokens once, when its form is found, however many errors it is answered
    with: a response is made on the event loop."""
    passes = []
    tokens = normal_form._tokens

    def counted(text: str, max_tokens: int) -> Iterator[normal_form._Token | None]:
        passes.append(text)
        return tokens(text, max_tokens)

    monkeypatch.setattr(normal_form, "_tokens", counted)
    reads, context = ReadExecutor(SCHEMA.graphql, SCHEMA.links), guardian()
    cache = DocumentCache(SCHEMA.graphql, validation_rules(30, 15), max_tokens=1_000)
    fields = "\n".join(f"a{n}: batchRuns(first: 1) {{ edges {{ node {{ id }} }} }}" for n in range(15))
    texts = [f"query {name} {{\n{fields}\n}}" for name in ("First", "Second", "Another")]
    compiled = None
    for text in texts:
        document = cache.get(text)
        compiled = compiled or reads.compile(
            document, document.operation(None), VariableValues({}, {}), context
        )
        entries = graphql_error_entries(compiled.errors, "FORBIDDEN", document)
        assert [entry["locations"] for entry in entries] == [
            [{"line": n + 2, "column": 1}] for n in range(15)
        ]
    assert passes == texts
