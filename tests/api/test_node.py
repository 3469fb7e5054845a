"""`node` finds an object of any type by its id: only the type that the id names is searched."""

from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import serving

NODE = (
    "query ($id: ID!) { node(id: $id) { __typename id ... on Person { firstName } ... on School { name } } }"
)
TWO = "query ($a: ID!, $b: ID!) { a: node(id: $a) { __typename } b: node(id: $b) { __typename } }"


async def test_one_document_finds_objects_of_every_type(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """The ids of one document's requests may be of any kind in any order: what was compiled for one kind is not used
    for another, and what is no id finds nothing, or is refused, each time."""
    person, school = f"person_{await district.person('Ada Lane')}", f"school_{await district.school()}"
    found = {
        person: {"__typename": "Person", "id": person, "firstName": "Ada"},
        school: {"__typename": "School", "id": school, "name": "Maple High"},
    }
    async with serving(db, host, "maple") as server:
        for _ in range(2):
            for given in (
                person,
                school,
                "household_1",
                "run_1",
                "filter_1",
                "optout_1",
                "person_0",
                "x",
                "",
            ):
                assert await server.run(NODE, {"id": given}) == {"node": found.get(given)}
            for given in ("x" * 101, "person_" + "1" * 101):
                _, answer = await server.post(
                    {"query": NODE, "variables": {"id": given}}, token=server.token()
                )
                assert answer["errors"][0]["extensions"]["code"] == "INVALID_ARGUMENT"
        for a, b in ((person, school), (school, person), (person, person)):
            answer = await server.run(TWO, {"a": a, "b": b})
            assert [answer[key]["__typename"] for key in "ab"] == [
                found[each]["__typename"] for each in (a, b)
            ]
