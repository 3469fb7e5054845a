"""What strangers send makes the server's memory no larger than it may be."""

import gc
import tracemalloc

import pytest
from graphql.execution.values import VariableValues

from gql_server.api.document_limits import validation_rules
from gql_server.api.schema import build_schema
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.errors import TooExpensive
from gql_server.reads.documents import DocumentCache
from gql_server.reads.executor import ReadExecutor
from gql_server.reads.links import ReadContext, ReadLimits

pytestmark = pytest.mark.slow

SCHEMA = build_schema()
FIELDS = "edges { node { preferences { on } households { household { members { person { id } } } } } }"
MAY_KEEP = 100_000


def _is_answered(reads: ReadExecutor, documents: DocumentCache, text: str, limits: ReadLimits) -> bool:
    """Compile a query as the server does before it asks the database; tell whether anything of it is answered."""
    document = documents.get(text)
    assert not document.errors
    viewer = Viewer(District(1, "maple", "UTC"), Role.ADMIN)
    context = ReadContext(viewer, None, None, limits)  # type: ignore[arg-type]
    try:
        compiled = reads.compile(document, document.operation(None), VariableValues({}, {}), context)
    except TooExpensive:
        return False
    return not compiled.errors


def _growth(first: int, limits: ReadLimits) -> int:
    """Return by how many bytes the caches have grown after many documents that differ."""
    documents = DocumentCache(SCHEMA.graphql, validation_rules(20, 15), max_tokens=1_000, max_bytes=MAY_KEEP)
    reads = ReadExecutor(SCHEMA.graphql, SCHEMA.links, cache_bytes=MAY_KEEP)
    _is_answered(reads, documents, "{ headRevision }", limits)
    tracemalloc.start()
    try:
        for n in range(60):
            _is_answered(reads, documents, f"{{ a{n}: people(first: {first}) {{ {FIELDS} }} }}", limits)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_documents_and_statements_are_kept_up_to_a_number_of_bytes() -> None:
    """Many documents, whose statements alone would take more, leave no more than the two caches may hold."""
    assert _growth(1, ReadLimits()) < 2 * MAY_KEEP + 600_000


def test_what_is_refused_is_not_kept_as_a_statement() -> None:
    """A query that is refused, for its price or for `first: 0`, leaves at most its document."""
    for first, limits in ((0, ReadLimits()), (1, ReadLimits(max_price=100))):
        assert _growth(first, limits) < MAY_KEEP + 500_000
