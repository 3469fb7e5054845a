"""What a viewer is told about themselves is what the server does (D22, D23)."""

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.server import serving

VIEWER = "{ viewer { canChangeOwnPreferences whyNot person { id } } }"
SET = """mutation ($person: ID!) { setPreferences(input: {personId: $person, cells: [
  {contactPoint: CELL_PHONE, method: VOICE, reason: GENERAL, on: true}]}) { userErrors { code } } }"""


@pytest.mark.parametrize("role", Role)
async def test_who_is_told_that_they_can_can(
    db: Pool, host: PluginHost, district: DistrictBuilder, role: Role
) -> None:
    """`canChangeOwnPreferences` is true for those alone whose change of their own preferences the server carries out;
    all others are told why not in words, even where every school has the portal's option on (D23, D25, D26)."""
    school = await district.school(portal=True)
    names = {}
    for name in ("student", "contact"):
        names[name] = await district.person(source_id=name, cell_phone="555-0100")
    await district.enroll(names["student"], school)
    await district.assign(names["contact"], school)
    await district.relate(names["student"], names["contact"])
    async with serving(db, host, "maple") as server:
        for name in ("student", "contact", "nobody"):
            token = server.token(role, name)
            viewer = (await server.run(VIEWER, token=token))["viewer"]
            own = (viewer["person"] or {}).get("id")
            _, answer = await server.post(
                {"query": SET, "variables": {"person": own or "person_0"}}, token=token
            )
            done = "errors" not in answer and answer["data"]["setPreferences"]["userErrors"] == []
            assert viewer["canChangeOwnPreferences"] is done, (role, name)
            assert (viewer["whyNot"] is None) is done
            assert done or viewer["whyNot"].endswith(".")
