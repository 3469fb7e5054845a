"""Who sees what: a row for every field of the graph, and what the product shows held against it (D27)."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest
from graphql import GraphQLObjectType, GraphQLSchema

from gql_server.api.document_limits import validation_rules
from gql_server.api.schema import build_schema
from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role
from gql_server.errors import Forbidden
from gql_server.hooks.host import PluginHost
from gql_server.reads.documents import DocumentCache
from gql_server.reads.links import ReadLimits
from tests.support.graph import GraphClient
from tests.support.marked_district import HOUSEHOLDS, STUDENTS, Marked, marked_district
from tests.support.wide import called, everything

pytestmark = pytest.mark.slow

SCHEMA = build_schema().graphql
ROLES = (Role.ADMIN, Role.VENDOR, Role.STAFF, Role.GUARDIAN, Role.STUDENT)
VIEWERS = {Role.ADMIN: None, Role.VENDOR: None, Role.STAFF: "tom", Role.GUARDIAN: "mia", Role.STUDENT: "ann"}
STUDENTS_OF = {"mia": {"sam", "kim"}, "ann": {"kim"}}
"""The students that a portal user sees: of Mia's, not Pat (no contact) and not Rob (ended); staff see nobody's."""

EVERYONE = "all all all all all"
OWN = "all all own own own"
FAMILY = "all all own family family"
ADMIN = "all none none none none"
SELF = "self self self self self"
ASK = "may may may may may"
ADMIN_ASKS = "may refused refused refused refused"

VISIBLE: Mapping[str, Mapping[str, str]] = {
    # all: of everyone · own: the viewer's own, and their households' · students: their students' · family: both of
    # these · self: of the viewer alone · may, refused: whether the role may ask at all. In the order of ROLES.
    "Query": {
        ASK: "viewer node person people household households schools contactReasons headRevision",
        ADMIN_ASKS: "batchModes plugins batchOptions batchRun batchRuns savedFilters",
    },
    "Viewer": {SELF: "role person canChangeOwnPreferences whyNot"},
    "Person": {
        FAMILY: "id sourceId firstName lastName active households enrollments",
        "all all none students students": "contacts",
        "all all none own own": "students",
        OWN: "contactPoints preferences optOuts districtAssignments history",
    },
    "ContactPoint": {OWN: "kind value"},
    "ChannelPreference": {OWN: "contactPoint method value on chosen"},
    "OptOut": {OWN: "id address method reasons source evidence recordedAt liftedAt"},
    "Household": {FAMILY: "id name members", OWN: "phone preferences history"},
    "HouseholdMembership": {FAMILY: "person household active"},
    # Of two people: the contact's own, once the student is one that they see.
    "Relationship": {
        "all all none own own": "student contact kind guardian messenger noContact active",
    },
    "Enrollment": {FAMILY: "school schoolYear grade startDate endDate active"},
    "DistrictAssignment": {OWN: "school title startDate endDate active"},
    "Change": {
        OWN: "revision at kinds source actor person household turnedOn turnedOff",
        ADMIN: "run",
    },
    "PreferenceCell": {OWN: "contactPoint method reason on"},
    "School": {EVERYONE: "id name sourceId portalContactInformation"},
    "ContactReason": {EVERYONE: "code label description plugin"},
    "BatchMode": {ADMIN: "code label description filterKind filterRequired plugin"},
    "BatchOptions": {ADMIN: "population cells"},
    "BatchCellOption": {ADMIN: "contactPoint reason enabled because reachable"},
    "BatchRun": {
        ADMIN: "id mode status dryRun keepChosen requestedBy requestedAt plannedAt finishedAt progress population "
        "results forecast errors exclusions excludedByRule samples difference queuedBehind reverts "
        "revertedBy restored leftAlone",
    },
    "BatchProgress": {ADMIN: "done total planning"},
    "BatchPlanning": {ADMIN: "step done total"},
    "BatchCellResult": {
        ADMIN: "contactPoint reason set updated unchanged overwroteChosen keptChosen excluded leftAlone "
        "peopleAffected",
    },
    "BatchExcludedByRule": {ADMIN: "rule code because remedy excluded"},
    "BatchDifference": {ADMIN: "leftPopulation choseSince excludedSince outdated"},
    "BatchSample": {ADMIN: "person household cells"},
    "BatchSampleCell": {ADMIN: "contactPoint reason set"},
    "BatchExclusion": {ADMIN: "person household contactPoint reason rule code because remedy"},
    "SavedFilter": {ADMIN: "id name kind criteria matches"},
    "Plugin": {ADMIN: "name version distribution enabled hooks"},
}
NEVER_SHOWN_YET = {
    ("Plugin", "version"),
    ("Plugin", "distribution"),
    ("BatchRun", "queuedBehind"),
}
"""Fields that are empty in this district for everyone: nothing can be seen of who sees them."""

Seen = dict[tuple[str, str], set[str]]
"""Whose values of a field were seen, by type and field: names of people, households, or `everyone`."""


def rows() -> dict[tuple[str, str], dict[Role, str]]:
    return {
        (type_, name): dict(zip(ROLES, words.split(), strict=True))
        for type_, groups in VISIBLE.items()
        for words, names in groups.items()
        for name in names.split()
    }


def graph_types(schema: GraphQLSchema) -> list[GraphQLObjectType]:
    """Return the types that queries answer, but for pages, which show what is on them.

    The subscriptions' events are runs; who may subscribe is told in test_subscriptions.py.
    """
    mutation = schema.mutation_type
    assert mutation is not None
    payloads = {field.type.of_type.name for field in mutation.fields.values()}
    return [
        type_
        for name, type_ in schema.type_map.items()
        if isinstance(type_, GraphQLObjectType)
        and not name.startswith("__")
        and not name.endswith(("Connection", "Edge"))
        and name not in payloads | {"PageInfo", "UserError", "Mutation", "Subscription"}
    ]


@pytest.fixture
async def marked(db: Pool, host: PluginHost) -> Marked:
    async with db.transaction() as conn:
        return await marked_district(conn, host, "maple")


@pytest.fixture
def client(db: Pool, host: PluginHost) -> GraphClient:
    """A client that admits documents of any size."""
    client = GraphClient(db, host)
    client.limits = ReadLimits(max_price=10**11, max_characters=10**7)
    client.documents = DocumentCache(
        client.schema.graphql,
        validation_rules(99, 9999, 999_999),
        max_tokens=999_999,
        max_characters=9_999_999,
    )
    return client


async def ask(client: GraphClient, marked: Marked, role: Role, person: str | None, text: str) -> Any:
    return await client.query(client.context(marked.builder.district, role, person), text)


# ── the table ───────────────────────────────────────────────────────────────────────────────────


def test_every_field_has_a_row() -> None:
    """Nobody can add a field to the graph without saying who sees it (D27)."""
    fields = {(type_.name, name) for type_ in graph_types(SCHEMA) for name in type_.fields}
    assert fields - rows().keys() == set(), "give these fields a row in VISIBLE: who sees them?"
    assert rows().keys() - fields == set(), "these rows are of no field"


def wide_document(admin: bool) -> str:
    """Return a query for everything that can be reached from the top within four rows' depth."""
    parts = []
    for name, field in SCHEMA.query_type.fields.items():  # type: ignore[union-attr]
        asked = rows()["Query", name]
        if name in ("node", "person", "household", "batchRun") or (
            asked[Role.VENDOR] == "refused" and not admin
        ):
            continue
        text = called(SCHEMA, name, field, 3)
        parts.append(text.replace("batchOptions ", 'batchOptions(mode: "STUDENTS") '))
    return f"{{ {' '.join(parts)} }}"


class Walk:
    """Walks an answer, and notes whose values are in it."""

    def __init__(self, marked: Marked) -> None:
        self.seen: Seen = {}
        kinds = ("person", "household", "optout")
        self.names = {f"{kind}_{n}": name for kind in kinds for name, n in marked.ids[kind].items()}

    def object(self, value: Mapping[str, Any], owner: str) -> None:
        type_ = value["__typename"]
        owner = self._owner(type_, value, owner)
        for name, part in value.items():
            if part is not None and part != [] and not _empty_page(part):
                self.seen.setdefault((type_, name), set()).add(owner)
            for inner in part if isinstance(part, list) else [part]:
                if isinstance(inner, dict) and "__typename" in inner:
                    self.object(inner, owner)

    def _owner(self, type_: str, value: Mapping[str, Any], owner: str) -> str:
        """Return whose an object is: its own, that of the person it is about, or of what it stands in."""
        if type_ == "School":
            return "everyone"
        key = {"HouseholdMembership": "person", "Relationship": "contact"}.get(type_)
        holder = value.get(key) if key else value
        return self.names.get((holder or {}).get("id", ""), owner)


def _empty_page(part: object) -> bool:
    return isinstance(part, dict) and part.get("edges") == []


def expected(word: str, viewer: str | None, owners: Collection[str]) -> set[str]:
    """Return whose values a viewer sees, of all those there are."""
    students = STUDENTS_OF.get(viewer or "", set())
    own = {viewer or "", *(home for home, members in HOUSEHOLDS.items() if viewer in members)}
    theirs = students | {home for home, members in HOUSEHOLDS.items() if students & {*members}}
    nobody: set[str] = set()
    seen = {"own": own, "students": students, "family": own | theirs, "none": nobody}
    return set(owners) if word == "all" else seen[word] & set(owners)


@pytest.mark.parametrize("role", [role for role in ROLES if role is not Role.ADMIN])
async def test_a_role_sees_what_its_row_says(client: GraphClient, marked: Marked, role: Role) -> None:
    """Of every field each role sees exactly the values that the table gives it, and misses none of them (D27)."""
    universe, walk = Walk(marked), Walk(marked)
    everything_there_is = await ask(client, marked, Role.ADMIN, None, wide_document(admin=True))
    universe.object({"__typename": "Query", **everything_there_is}, "everyone")
    answer = await ask(client, marked, role, VIEWERS[role], wide_document(admin=False))
    walk.object({"__typename": "Query", **answer}, "everyone")
    for (type_, name), row in rows().items():
        if type_ not in ("Query", "Viewer"):
            there = universe.seen.get((type_, name), set())
            assert there or (type_, name) in NEVER_SHOWN_YET, f"nobody has a {type_}.{name} to be seen"
            found = walk.seen.get((type_, name), set())
            assert found == expected(row[role], VIEWERS[role], there), f"{type_}.{name}"


@pytest.mark.parametrize("role", ROLES)
async def test_who_may_ask(client: GraphClient, marked: Marked, role: Role) -> None:
    """What is for administrators alone is FORBIDDEN to everyone else, whatever the arguments (D27)."""
    arguments = {"batchOptions": 'mode: "STUDENTS"', "node": 'id: "x"', "person": 'id: "x"',
                 "household": 'id: "x"', "batchRun": 'id: "x"'}  # fmt: skip
    for name in SCHEMA.query_type.fields:  # type: ignore[union-attr]
        head = f"{name}({arguments[name]})" if name in arguments else name
        body = "" if name == "headRevision" else " { __typename }"
        if rows()["Query", name][role] == "may":
            await ask(client, marked, role, VIEWERS[role], f"{{ {head}{body} }}")
        else:
            with pytest.raises(Forbidden):
                await ask(client, marked, role, VIEWERS[role], f"{{ {head}{body} }}")


# ── what leaks ──────────────────────────────────────────────────────────────────────────────────

HISTORY = (
    "history(first: 100) { edges { node { actor run { requestedBy } person { lastName } "
    "household { name phone } } } }"
)
PERSON = "id sourceId firstName lastName active contactPoints { value } preferences { value on chosen } " \
    "optOuts { address evidence } enrollments(activeOnly: false) { grade school { name } } " \
    "districtAssignments(activeOnly: false) { title } " + HISTORY  # fmt: skip


def person(depth: int) -> str:
    """Return everything about a person, and about everybody whom they lead to in so many steps."""
    if depth == 0:
        return f"{{ {PERSON} }}"
    inner = person(depth - 1)
    tie = f"{{ kind guardian messenger noContact student {inner} contact {inner} }}"
    return (
        f"{{ {PERSON} contacts {tie} students {tie}"
        f" households(activeOnly: false) {{ person {inner} household {home(depth - 1)} }} }}"
    )


def home(depth: int) -> str:
    """Return everything about a household, and about its members."""
    return f"{{ name phone preferences {{ value }} {HISTORY} members(activeOnly: false) {{ person {person(depth)} }} }}"


def marks(text: str) -> set[str]:
    """Return the marked values in an answer, as `mia:cell_phone`."""
    return set(re.findall(r"maple:(\w+:\w+)", text))


def of(owners: Iterable[str], *values: str) -> set[str]:
    return {f"{owner}:{value}" for owner in owners for value in values}


NAMES = ("first_name", "last_name")
OWN_VALUES = (*NAMES, "home_phone", "work_phone", "cell_phone", "email", "secondary_email", "evidence")
HOME = ("name", "phone", "evidence")
SCHOOL_NAMES = of(["elm", "oak"], "name")

PORTAL: Mapping[tuple[Role, str], set[str]] = {
    # Mia: her own, her students, and of Dan, with whom Sam lives too, the household's name alone.
    (Role.GUARDIAN, "mia"): of(["mia"], *OWN_VALUES, "kind", "title") | of(["sam", "kim"], *NAMES)
    | of(["home"], *HOME) | of(["flat"], "name"),
    (Role.GUARDIAN, "dan"): of(["dan"], *OWN_VALUES, "kind") | of(["sam"], *NAMES)
    | of(["flat"], *HOME) | of(["home"], "name"),
    # Gran lives with Mia, and sees neither her phone nor her name.
    (Role.GUARDIAN, "gran"): of(["gran"], *OWN_VALUES, "kind") | of(["sam"], *NAMES)
    | of(["home"], *HOME) | of(["flat"], "name"),
    # Lee is an uncle who may not be contacted: not even the name of his nephew.
    (Role.GUARDIAN, "lee"): of(["lee"], *OWN_VALUES) | of(["farm"], *HOME),
    (Role.STUDENT, "sam"): of(["sam"], *OWN_VALUES) | of(["home", "flat"], *HOME),
    (Role.STUDENT, "ann"): of(["ann"], *OWN_VALUES, "kind") | of(["kim"], *NAMES) | of(["home"], *HOME),
    # Pat lives with Mia, whom he may not be brought in contact with.
    (Role.STUDENT, "pat"): of(["pat"], *OWN_VALUES) | of(["home"], *HOME),
    # Rob was Mia's ward once.
    (Role.STUDENT, "rob"): of(["rob"], *OWN_VALUES) | of(["farm"], *HOME),
    (Role.STAFF, "tom"): of(["tom"], *OWN_VALUES, "title") | of(["villa"], *HOME),
    (Role.GUARDIAN, "tom"): of(["tom"], *OWN_VALUES, "title", "kind") | of(["zoe"], *NAMES)
    | of(["villa"], *HOME),
    (Role.GUARDIAN, "nobody"): set(),
    (Role.STUDENT, "nobody"): set(),
    (Role.STAFF, "nobody"): set(),
}  # fmt: skip


@pytest.mark.parametrize(("role", "name"), PORTAL)
async def test_nothing_else_leaks(client: GraphClient, marked: Marked, role: Role, name: str) -> None:
    """Whatever a portal user asks, the values in the answers are those that they may see, and all of these: no other
    contact's, even in the same household; nothing through a no-contact or an ended relationship, either way (D27).
    """
    seen = set()
    for start in (
        f"viewer {{ person {person(2)} }}",
        f"people(first: 100) {{ edges {{ cursor node {person(1)} }} }}",
        f"households(first: 100) {{ edges {{ node {home(1)} }} }}",
        "schools { name }",
    ):
        seen |= marks(json.dumps(await ask(client, marked, role, name, f"{{ {start} }}")))
    assert seen == PORTAL[role, name] | SCHOOL_NAMES


@pytest.mark.parametrize(("role", "name"), PORTAL)
async def test_nothing_leaks_by_id(client: GraphClient, marked: Marked, role: Role, name: str) -> None:
    """Whoever knows an id learns no more by it than without: what is not theirs to see is null (D27)."""
    text = f"query ($id: ID!) {{ node(id: $id) {everything(SCHEMA, SCHEMA.type_map['Node'], 2)} }}"
    context = client.context(marked.builder.district, role, name)
    seen = set()
    for kind, numbers in marked.ids.items():
        for number in numbers.values():
            seen |= marks(json.dumps(await client.query(context, text, {"id": f"{kind}_{number}"})))
    assert seen == PORTAL[role, name] | SCHOOL_NAMES


@pytest.mark.parametrize("name", ["mia", "lee", "dan", "sam"])
async def test_filters_find_nobody_who_is_not_seen(client: GraphClient, marked: Marked, name: str) -> None:
    """A search tells nothing about people who are not shown (D27)."""
    role = Role.STUDENT if name in STUDENTS else Role.GUARDIAN
    seen = {name, *STUDENTS_OF.get(name, {"sam"} if name == "dan" else set())}
    for other in marked.ids["person"]:
        for wanted in (
            f'sourceId: "{other}"',
            f'search: "{marked.mark(other, "first_name")}"',
            f'ids: ["person_{marked.person(other)}"]',
        ):
            page = "{ edges { node { sourceId } } pageInfo { endCursor } }"
            answer = await ask(client, marked, role, name, f"{{ people(filter: {{ {wanted} }}) {page} }}")
            found = [edge["node"]["sourceId"] for edge in answer["people"]["edges"]]
            assert found == ([other] if other in seen else [])
            assert (answer["people"]["pageInfo"]["endCursor"] is None) is (other not in seen)


async def test_the_viewer_is_who_the_token_says(client: GraphClient, marked: Marked) -> None:
    """`viewer` shows the person of the token and nobody else; roles without one show none (D23, D27)."""
    for role, name in VIEWERS.items():
        answer = await ask(client, marked, role, name, "{ viewer { role person { sourceId } } }")
        assert answer["viewer"] == {"role": role.value, "person": name and {"sourceId": name}}
