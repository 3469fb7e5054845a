"""Whether a student has a messenger contact is one question with one answer, wherever it is asked (D8)."""

import json
from datetime import timedelta
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.hooks.host import PluginHost
from tests.support.builder import ENDED, DistrictBuilder
from tests.support.random_district import load_random_district
from tests.support.server import TestServer, serving

TIES = """query ($id: ID!) { person(id: $id) {
  contacts(messengerOnly: true) { kind } students(messengerOnly: true) { kind } all: contacts { kind } } }"""
WITH = """query ($filter: PersonFilter) { people(filter: $filter, first: 100) { edges { node {
  id contacts(messengerOnly: true) { active messenger noContact } } } } }"""
SAVE = """mutation ($criteria: JSON!, $name: String!) {
  saveFilter(input: {name: $name, kind: STUDENT, criteria: $criteria}) { filter { id matches } } }"""


async def found(server: TestServer, given: dict[str, Any]) -> list[Any]:
    page = (await server.run(WITH, {"filter": given}))["people"]
    return [edge["node"] for edge in page["edges"]]


async def test_messenger_contacts_are_those_that_messages_reach(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """`messengerOnly` shows the active messenger relationships that are not marked no-contact, from both ends (D8)."""
    student = await district.student(await district.school())
    contact = await district.person("Mia Lane")
    today = district.district.today()
    tomorrow, yesterday = today + timedelta(days=1), today - timedelta(days=1)
    for kind, values in {
        "reached": {}, "from today": {"dates": (today, None)}, "until today": {"dates": (None, today)},
        "no messenger": {"messenger": False}, "no contact": {"no_contact": True}, "ended": {"dates": ENDED},
        "until yesterday": {"dates": (None, yesterday)}, "from tomorrow": {"dates": (tomorrow, None)},
    }.items():  # fmt: skip
        await district.relate(student, contact, kind=kind, **values)  # type: ignore[arg-type]
    async with serving(db, host, "maple") as server:
        of_student = (await server.run(TIES, {"id": f"person_{student}"}))["person"]
        of_contact = (await server.run(TIES, {"id": f"person_{contact}"}))["person"]
    reached = [{"kind": kind} for kind in ("reached", "from today", "until today")]
    assert (of_student["contacts"], of_contact["students"]) == (reached, reached)
    assert len(of_student["all"]) == 8


@pytest.mark.parametrize("seed", [1, 2])
async def test_all_who_ask_for_messenger_contacts_are_told_the_same(
    db: Pool, host: PluginHost, seed: int
) -> None:
    """The filter of `people`, the field of saved filters and the list of contacts agree on every student (D8)."""
    async with db.transaction() as conn:
        await load_random_district(conn, host, "maple", seed)
        await conn.execute("delete from saved_filter")  # their numbers were not drawn from the sequence
        await conn.execute("update batch_run set status = 'CANCELLED'")  # no server shall work them
    async with serving(db, host, "maple") as server:
        without = await found(server, {"withoutMessengerContact": True})
        those_with = await found(server, {"withoutMessengerContact": False})
        students = await found(server, {"audience": "STUDENTS"})
        assert without
        assert those_with
        assert not any(student["contacts"] for student in without)
        assert all(student["contacts"] for student in those_with)
        ties = [tie for student in those_with for tie in student["contacts"]]
        assert all(tie == {"active": True, "messenger": True, "noContact": False} for tie in ties)
        assert len(students) == len(without) + len(those_with)
        for flag, expected in ((True, those_with), (False, without)):
            leaf = {"field": "hasMessengerContact", "is": flag}
            criteria = {"all": [leaf, {"field": "activeEnrollment", "is": True}]}
            saved = await server.run(SAVE, {"criteria": criteria, "name": json.dumps(leaf)})
            assert saved["saveFilter"]["filter"]["matches"] == len(expected)
