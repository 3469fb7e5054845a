"""`SavedFilter.matches`: what is counted for a filter depends on this filter, not on how many others there are."""

from typing import Any

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.hooks import FieldType, FilterField, hookimpl
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import TestServer, serving

MANY = 150
SAVE = """mutation save($input: SaveFilterInput!) {
  saveFilter(input: $input) { filter { id matches } userErrors { code } } }"""
NODE = "query node($id: ID!) { node(id: $id) { ... on SavedFilter { id matches } } }"


class Misspelt:
    """A filter field whose SQL is wrong."""

    @hookimpl
    def filter_fields(self) -> list[FilterField]:
        return [FilterField("misspelt", "M", FieldType.TEXT, "p.nope = any(:value::text[])")]


def grade(text: str) -> dict[str, Any]:
    return {"all": [{"field": "grade", "in": [text]}, {"not": {"field": "grade", "in": ["10"]}}]}


async def save(server: TestServer, name: str, criteria: Any, kind: str = "STUDENT") -> Any:
    variables = {"input": {"name": name, "kind": kind, "criteria": criteria}}
    _, answer = await server.post({"query": SAVE, "variables": variables}, token=server.token())
    return answer


async def test_one_filter_is_counted_however_many_there_are(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """`node` and the payload of `saveFilter` count the filter that they show, by literal and by variable, where the
    criteria of all filters together would be more than one query may hold."""
    school = await district.school()
    await district.student(school, grade="09")
    await district.student(school, grade="09")
    await district.student(school, grade="11")
    async with serving(db, host, district.district.code) as server:
        saved = [await save(server, f"f{n}", grade(f"x{n}")) for n in range(MANY)]
        assert [each["data"]["saveFilter"]["filter"]["matches"] for each in saved] == [0] * MANY
        ninth, eleventh = [
            (await save(server, name, grade(name)))["data"]["saveFilter"]["filter"] for name in ("09", "11")
        ]
        assert (ninth["matches"], eleventh["matches"]) == (2, 1)
        for one in (ninth, eleventh):
            assert (await server.run(NODE, {"id": one["id"]}))["node"] == one
            both = f"{{ a: {_literal(one['id'])} b: {_literal(ninth['id'])} }}"
            assert await server.run(both) == {"a": one, "b": ninth}
        for nothing in ("filter_999999", "person_999999", "x"):
            assert (await server.run(NODE, {"id": nothing}))["node"] is None


def _literal(node_id: str) -> str:
    return f'node(id: "{node_id}") {{ ... on SavedFilter {{ id matches }} }}'


async def test_a_bad_filter_takes_nothing_from_another(db: Pool, district: DistrictBuilder) -> None:
    """A filter with a field whose SQL fails is PLUGIN where it is shown itself, or listed with its kind; the payload
    and the `node` of another filter, and the list of the other kind, are answered."""
    host = PluginHost([resource_folder("plugins")], given={"odd": Misspelt()})
    await district.student(await district.school(), grade="09")
    async with serving(db, host, district.district.code) as server:
        bad = await save(server, "bad", {"field": "misspelt", "is": "x"})
        assert [error["extensions"]["code"] for error in bad["errors"]] == ["PLUGIN"]
        good = await save(server, "good", grade("09"))
        assert good == {
            "data": {"saveFilter": {"filter": good["data"]["saveFilter"]["filter"], "userErrors": []}}
        }
        fine = good["data"]["saveFilter"]["filter"]
        assert fine["matches"] == 1
        assert (await server.run(NODE, {"id": fine["id"]}))["node"] == fine
        await save(server, "all", {"field": "activeEnrollment", "is": True}, "CENSUS")
        assert await server.run("{ savedFilters(kind: CENSUS) { matches } }") == {
            "savedFilters": [{"matches": 1}]
        }
        listed = {"query": "{ headRevision savedFilters(kind: STUDENT) { matches } }"}
        _, answer = await server.post(listed, token=server.token())
        assert answer["data"] == {"headRevision": "0", "savedFilters": None}
