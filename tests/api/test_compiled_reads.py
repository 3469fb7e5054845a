"""What PostgreSQL answers to a compiled read is what graphql-core answers to the same document, to the letter.

`GQL_SERVER_TEST_EXAMPLES=5000 pytest tests/api/test_compiled_reads.py` looks further, at other queries each time.
"""

import json
import os
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from tests.support import random_district as size
from tests.support.answers import IDS, PRODUCT, SEEDS, World, agree, compiled, load_world, naive
from tests.support.documents import Query, Values, queries

_EXAMPLES = os.environ.get("GQL_SERVER_TEST_EXAMPLES")
VALUES = Values(
    ids=IDS,
    texts={
        "search": ["a", "ADA", "öz", "lane a", "van", "lu", "", " ", "%", "\\", "x\0y"],
        "sourceId": ["P1", "P5", "p1", "", "O'x"],
        "grade": ["09", "9", ""],
        "grades": ["09", "10", "x\0y"],
    },
    codes={"ModeCode": ["STUDENTS", "STUDENT_CONTACTS"] * 3 + ["CENSUS_STAFF", "NOBODY"]},
    integers={"first": [1, 2, 3], "schoolYear": [2025, 2026, 2026, 1]},
)
_PORTAL = (Role.GUARDIAN, Role.STUDENT, Role.STAFF)


@dataclass(frozen=True)
class Question:
    """A query, who asks it, and in which of the districts."""

    district: int
    role: Role
    person: str | None
    query: Query


@st.composite
def questions(draw: st.DrawFn) -> Question:
    people = [f"P{n}" for n in range(1, size.PEOPLE)]
    role = draw(st.sampled_from([Role.ADMIN, Role.ADMIN, *Role, Role.GUARDIAN, Role.GUARDIAN]))
    links = PRODUCT.links.items()
    refused = frozenset(
        name for (_, name), link in links if link.roles is not None and role not in link.roles
    )
    person = draw(st.sampled_from([*people, *people, None, "nobody"]))
    own = [f"person_{person[1:]}"] * size.PEOPLE if person in people and role in _PORTAL else []
    values = replace(VALUES, ids={**IDS, "person": [*IDS["person"], *own]})
    query = draw(queries(PRODUCT.graphql, values, refused))
    return Question(draw(st.integers(0, len(SEEDS) - 1)), role, person, query)


@pytest.fixture
async def world(db: Pool, host: PluginHost) -> World:
    return await load_world(db, host)


@pytest.mark.slow
@settings(
    max_examples=int(_EXAMPLES or 300),
    derandomize=_EXAMPLES is None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if _EXAMPLES else [Phase.generate],  # shrinking takes minutes
    suppress_health_check=[*HealthCheck],
)
@given(question=questions())
async def test_a_compiled_read_answers_as_graphql_core_does(
    world: World, host: PluginHost, question: Question
) -> None:
    """The one statement and the rules in plain Python, executed by graphql-core, say the same (D1-D12, D23, D27)."""
    asked = world.districts[question.district]
    query = asked.real(question.query)
    context = world.client.context(asked.district, question.role, question.person)
    expected = naive(asked, context.viewer, host, query)
    answer = await compiled(world.client, context, query)
    assert agree(answer, expected, query), f"{answer}\n{expected}"
    event(f"refused: {sorted(map(sorted, answer.refused.values()))}")
    event(f"length: {len(json.dumps(answer.data)) // 300 * 300}")
