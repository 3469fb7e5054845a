"""What a portal user may not see shows nowhere: not by filters, pages, order or ids either (D27)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.hooks.host import PluginHost
from tests.support import random_district as size
from tests.support.edfi import EdfiFolder, phone, run
from tests.support.naive_rules import Eyes, load_tables, same_grade
from tests.support.server import TestServer, serving

pytestmark = pytest.mark.slow

PORTAL = (Role.GUARDIAN, Role.STUDENT, Role.STAFF)
WHO = "id sourceId firstName lastName active"
VIEWER = f"""{{ viewer {{ role canChangeOwnPreferences whyNot person {{ {WHO}
  contactPoints {{ kind value }} preferences {{ contactPoint method value on chosen }}
  optOuts {{ address method reasons evidence }}
  households(activeOnly: false) {{ active household {{ id name phone preferences {{ value on chosen }} }} }}
  students {{ kind guardian messenger noContact student {{ {WHO} contacts {{ kind contact {{ id }} }} }} }}
  reached: students(messengerOnly: true) {{ student {{ id }} }}
  history(first: 20) {{ edges {{ cursor node {{ revision kinds actor turnedOn {{ reason }} household {{ id }} }} }} }}
}} }} }}"""
HOUSEHOLDS = """query ($first: Int!, $after: String) { households(first: $first, after: $after) {
  edges { cursor node { id name phone preferences { value on chosen } members(activeOnly: false) { person { id } } } }
  pageInfo { hasNextPage endCursor } } }"""
PEOPLE = f"""query ($filter: PersonFilter, $first: Int!, $after: String) {{
  people(filter: $filter, first: $first, after: $after) {{
    edges {{ cursor node {{ {WHO}
      enrollments {{ grade school {{ id }} }} districtAssignments {{ school {{ id }} }} }} }}
    pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"""
NODE = f"""query ($id: ID!) {{ node(id: $id) {{ id
  ... on Person {{ {WHO} contactPoints {{ value }} preferences {{ value on }} optOuts {{ id }} contacts {{ kind }} }}
  ... on Household {{ name phone preferences {{ value on }} members {{ person {{ id }} }}
    history(first: 3) {{ edges {{ cursor node {{ kinds actor turnedOn {{ reason }} }} }}
      pageInfo {{ hasNextPage }} }} }}
  ... on OptOut {{ address evidence }} }} }}"""

FILTERS: Sequence[dict[str, Any]] = [
    *({"search": text} for text in ("a", "L", "van der", "öz", "ada lane")),
    *({"sourceId": f"P{n}"} for n in range(1, size.PEOPLE, 2)),
    *({"schoolId": f"school_{n}"} for n in range(1, size.SCHOOLS + 1)),
    *({"grade": grade} for grade in ("09", "9", "10", "KG")),
    {"ids": [f"person_{n}" for n in range(1, size.PEOPLE + 1)]},
    {"ids": ["person_2", "person_1"], "grade": "9"},
]
REFUSED: Sequence[dict[str, Any]] = [
    *({"audience": audience} for audience in ("STUDENT_CONTACTS", "STUDENTS", "STAFF")),
    *({"withoutMessengerContact": flag} for flag in (True, False)),
    {"audience": "STAFF", "search": "a"},
]


async def people(
    server: TestServer, token: str, given: Mapping[str, Any] | None, first: int = 50
) -> list[Any]:
    """Return the people that a filter finds, page by page."""
    found: list[Any] = []
    after = None
    while True:
        variables = {"filter": given, "first": first, "after": after}
        page = (await server.run(PEOPLE, variables, token=token))["people"]
        found += [edge["node"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


def fits(person: Any, given: Mapping[str, Any]) -> bool:
    """Whether a person fits a filter, by nothing but what was read of them."""
    names = person["firstName"].lower(), person["lastName"].lower()
    places = [*person["enrollments"], *person["districtAssignments"]]
    tests = {
        "search": lambda text: all(
            any(name.startswith(word) for name in names) for word in text.lower().split()
        ),
        "sourceId": lambda wanted: person["sourceId"] == wanted,
        "schoolId": lambda wanted: any((place["school"] or {}).get("id") == wanted for place in places),
        "grade": lambda wanted: any(same_grade(e["grade"], wanted) for e in person["enrollments"]),
        "ids": lambda wanted: person["id"] in wanted,
    }
    return all(tests[name](value) for name, value in given.items())


@pytest.fixture
async def district(db: Pool, host: PluginHost) -> District:
    async with db.transaction() as conn:
        district = await size.load_random_district(conn, host, "d2", 2)
        await conn.execute("update batch_run set status = 'CANCELLED'")  # no server shall work them
        return district


def viewers() -> Iterator[tuple[Role, str]]:
    yield from ((Role.GUARDIAN, f"P{n}") for n in range(3, size.PEOPLE))
    yield from ((Role.STUDENT, "P2"), (Role.STUDENT, "P5"), (Role.STAFF, "P9"), (Role.STAFF, "nobody"))


async def test_a_filter_tells_no_more_than_reading(db: Pool, host: PluginHost, district: District) -> None:
    """For a portal user `people(filter:)` is what they see without it, filtered by what they can read of it, in the
    same order, whatever the size of the pages (D27)."""
    async with serving(db, host, district.code) as server:
        for role, name in viewers():
            token = server.token(role, name)
            everyone = await people(server, token, None, first=1)
            assert everyone == await people(server, token, {})
            for given in FILTERS:
                expected = [person for person in everyone if fits(person, given)]
                assert await people(server, token, given, first=2) == expected, f"{role} {name} {given}"


@pytest.mark.parametrize("role", PORTAL)
async def test_filters_about_contacts_are_not_for_the_portal(
    db: Pool, host: PluginHost, district: District, role: Role
) -> None:
    """`audience` and `withoutMessengerContact` are FORBIDDEN to portal users, in words, whoever would be found (D27);
    administrators and vendors ask them."""
    async with serving(db, host, district.code) as server:
        for given in REFUSED:
            body = {"query": PEOPLE, "variables": {"filter": given, "first": 5}}
            for name in ("P5", "nobody"):
                _, answer = await server.post(body, token=server.token(role, name))
                (error,) = answer["errors"]
                assert error["extensions"]["code"] == "FORBIDDEN"
                assert next(iter(given)) in error["message"]
            for other in (Role.ADMIN, Role.VENDOR):
                assert "errors" not in (await server.post(body, token=server.token(other)))[1]


async def test_an_imported_home_number_is_for_those_who_live_there(
    db: Pool, host: PluginHost, tmp_path: Path
) -> None:
    """A home number that an import made the household's phone is shown to those who live there; a parent who lives
    apart sees the household's name alone (D1, D27)."""
    folder = EdfiFolder(tmp_path / "edfi")
    folder.family(1, phone("Home", "555 0102"))
    folder.person("Contact", "2", "Dan Hill")
    folder.relate("1", "2", "Father", lives_with="false")
    async with db.acquire() as conn:
        await run(conn, host, folder)
    seen = "{ households { edges { node { name phone preferences { value } } } } }"
    async with serving(db, host, "maple") as server:
        for name, number in (("contact-1", "5550102"), ("contact-2", None)):
            data = await server.run(seen, token=server.token(Role.GUARDIAN, name))
            (edge,) = data["households"]["edges"]
            assert (edge["node"]["name"], edge["node"]["phone"]) == ("Lane1", number)
            assert bool(edge["node"]["preferences"]) is (number is not None)


async def all_answers(server: TestServer, token: str) -> str:
    """Return what a viewer is answered to everything, as text."""
    asked: list[tuple[str, dict[str, Any]]] = [(VIEWER, {})]
    asked += [(HOUSEHOLDS, {"first": first}) for first in (1, 50)]
    asked += [(PEOPLE, {"filter": given, "first": 3}) for given in (None, *FILTERS, *REFUSED)]
    for prefix, most in (
        ("person", size.PEOPLE),
        ("household", size.HOUSEHOLDS),
        ("optout", size.OPT_OUTS),
    ):
        asked += [(NODE, {"id": f"{prefix}_{n}"}) for n in range(1, most + 1)]
    answers = [
        (await server.post({"query": text, "variables": variables}, token=token))[1]
        for text, variables in asked
    ]
    return json.dumps(answers)


async def change_all_that_is_hidden(db: Pool, district: District, eyes: Eyes) -> None:
    """Change whatever a viewer may not see: values, flags, ties, names and stops of others."""
    me = eyes.me or 0
    seen, homes = sorted({me, *eyes.students}), sorted(eyes.own_households())
    their_homes = sorted(
        h["household_id"] for h in eyes.tables["household"] if eyes.sees_household(h["household_id"])
    )
    shown_ties = sorted(
        r["relationship_id"] for r in eyes.tables["relationship"] if eyes.sees_relationship(r)
    )
    addresses = sorted(eyes.addresses(me)) if me else []
    today = district.today()
    for text, *args in (
        ("delete from contact_point where district_id = $1 and person_id <> $2 and kind = 'EMAIL'", me),
        ("update contact_point set value = '555-0199' where district_id = $1 and person_id <> $2", me),
        ("update preference set reasons_on = ~reasons_on & 255, reasons_chosen = 0"
         " where district_id = $1 and person_id <> $2", me),
        ("update household set phone = case when phone is null then '555-0198' end"
         " where district_id = $1 and household_id <> all($2)", homes),
        ("update household set name = name || 'x', source_id = 'x' || household_id"
         " where district_id = $1 and household_id <> all($2)", their_homes),
        ("update household_preference set reasons_on = ~reasons_on & 255"
         " where district_id = $1 and household_id <> all($2)", homes),
        ("update relationship set messenger = not messenger, guardian = not guardian, kind = 'Aunt'"
         " where district_id = $1 and relationship_id <> all($2)", shown_ties),
        ("update relationship set no_contact = not no_contact, start_date = null, end_date = null"
         " where district_id = $1 and contact_id <> $2", me),
        ("delete from household_member where district_id = $1 and person_id <> all($2)", seen),
        # Of the viewer's own memberships the ended ones tell which changes of a household they see.
        ("delete from household_member where district_id = $1 and end_date < $2 and person_id <> $3", today, me),
        ("delete from enrollment where district_id = $1 and person_id <> all($2)", seen),
        ("delete from district_assignment where district_id = $1 and person_id <> $2", me),
        ("update person set first_name = 'A', last_name = 'A', source_id = 'x' || person_id"
         " where district_id = $1 and person_id <> all($2)", seen),
        ("update opt_out set evidence = 'Else', lifted_at = null, reasons = 1"
         " where district_id = $1 and address <> all($2)", addresses),
        ("update change set kind = 'PERSON', turned_on = null where district_id = $1"
         " and not case subject when 'PERSON' then subject_ids @> array[$2::bigint]"
         " else subject_ids && $3::bigint[] end",
         me, homes),
        ("update change set turned_on = array("
         " select case id when $2 then coalesce(turned_on[n], turned_on[1]) else 0 end"
         " from unnest(subject_ids) with ordinality as s (id, n) order by n)"
         " where district_id = $1 and subject = 'PERSON' and turned_on is not null and cardinality(subject_ids) > 1",
         me),
        ("delete from change where district_id = $1 and kind = 'RELATIONSHIP'"
         " and subject_ids @> array[$2::bigint]", me),
        ("delete from change where district_id = $1 and kind = 'MEMBERSHIP' and subject = 'HOUSEHOLD'"
         " and subject_ids && $2::bigint[]", homes),
        ("update change_set set actor = split_part(actor, ':', 1) || ':x' || $2 where district_id = $1", "y"),
        ("delete from disabled_cell where district_id = $1 or $2 = 0", 1),
    ):  # fmt: skip
        async with db.transaction() as conn:
            await conn.execute(text, district.district_id, *args)


@pytest.mark.parametrize(("role", "name"), [
    (Role.GUARDIAN, "P7"), (Role.GUARDIAN, "P9"), (Role.STUDENT, "P2"), (Role.STAFF, "P9"),
])  # fmt: skip
async def test_what_is_hidden_changes_no_answer(
    db: Pool, host: PluginHost, district: District, role: Role, name: str
) -> None:
    """Two districts that differ only in what a portal user may not see give them the same bytes to every question:
    fields, filters, pages, ids and errors (D27)."""
    async with db.acquire() as conn:
        tables = await load_tables(conn, district.district_id)
    eyes = Eyes(tables, Viewer(district, role, name), host)
    async with serving(db, host, district.code) as server:
        token = server.token(role, name)
        before = await all_answers(server, token)
        of_admin = await all_answers(server, server.token())
        await change_all_that_is_hidden(db, district, eyes)
        assert await all_answers(server, token) == before
        assert await all_answers(server, server.token()) != of_admin
