"""Where an error is told to be: in the text that its sender sent."""

from graphql.execution.values import VariableValues

from gql_server.api.document_limits import validation_rules
from gql_server.api.errors import graphql_error_entries
from gql_server.api.schema import build_schema
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.reads.documents import DocumentCache
from gql_server.reads.executor import ReadExecutor
from gql_server.reads.links import ReadContext, ReadLimits

SCHEMA = build_schema()
LONG = "# another layout\n\n\n{ headRevision\n\n    batchRuns(first: 1) { edges { node { id } } } }"
SHORT = "{ headRevision batchRuns(first: 1) { edges { node { id } } } }"


def test_an_error_that_outlived_its_document_is_told_in_the_senders_text() -> None:
    """What was compiled of a text is used for others of its form, also after the text itself has left the cache; the
    line and column of a refused field are those of the text that was sent."""
    reads = ReadExecutor(SCHEMA.graphql, SCHEMA.links)
    viewer = Viewer(District(1, "maple", "UTC"), Role.GUARDIAN, "P1")
    context = ReadContext(viewer, None, None, ReadLimits())  # type: ignore[arg-type]
    for text, line, column in ((LONG, 6, 5), (SHORT, 1, 16)):
        cache = DocumentCache(
            SCHEMA.graphql, validation_rules(20, 15), max_tokens=1_000
        )  # holds no other text
        document = cache.get(text)
        compiled = reads.compile(document, document.operation(None), VariableValues({}, {}), context)
        [entry] = graphql_error_entries(compiled.errors, "FORBIDDEN", document)
        assert entry["locations"] == [{"line": line, "column": column}]
