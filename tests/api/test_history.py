"""The histories of people and households: what one change set did is one node, and whose changes are shown to whom."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder
from tests.support.graph import GraphClient
from tests.support.log import packed_change

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 2)
NODE = (
    "{ revision kinds source actor person { id } household { id }"
    " turnedOn { contactPoint method reason } turnedOff { contactPoint method reason } }"
)
PAGE = f"{{ edges {{ cursor node {NODE} }} pageInfo {{ hasNextPage endCursor }} }}"
QUERY = f"""query ($id: ID!, $first: Int, $after: String) {{ node(id: $id) {{
  ... on Person {{ history(first: $first, after: $after) {PAGE} }}
  ... on Household {{ history(first: $first, after: $after) {PAGE} }}
}} }}"""


class Histories:
    """Writes the log of one district as it is to be, and asks for histories."""

    def __init__(self, db: Pool, host: PluginHost, district: DistrictBuilder) -> None:
        self.district, self.client, self.revision = district, GraphClient(db, host), 0

    async def change_set(self, at: datetime, actor: str = "ADMIN:boss") -> int:
        """Begin a change set, which all changes belong to until the next."""
        self.revision += 1
        await self.district.insert("change_set", revision=self.revision, at=at, source="ADMIN", actor=actor)
        return self.revision

    async def change(
        self,
        subject: str,
        *ids: int,
        kind: str = "PREFERENCES",
        channel: Sequence[str] = ("CELL_PHONE", "VOICE"),
        masks: Mapping[str, int] | None = None,
    ) -> None:
        channels = (
            dict(zip(("contact_point", "method"), channel, strict=True)) if kind == "PREFERENCES" else {}
        )
        row = packed_change(self.revision, subject, kind, {number: masks or {} for number in ids})
        await self.district.insert("change", **row, **channels)

    async def ask(
        self, kind: IdKind, number: int, role: Role = Role.ADMIN, name: str | None = None, **variables: Any
    ) -> Any:
        context = self.client.context(self.district.district, role, name)
        node = (await self.client.query(context, QUERY, {"id": encode_id(kind, number), **variables}))["node"]
        return node and node["history"]

    async def nodes(self, kind: IdKind, number: int, role: Role = Role.ADMIN, name: str | None = None) -> Any:
        return [edge["node"] for edge in (await self.ask(kind, number, role, name))["edges"]]

    async def revisions(
        self, kind: IdKind, number: int, role: Role = Role.ADMIN, name: str | None = None
    ) -> list[int]:
        return [int(node["revision"]) for node in await self.nodes(kind, number, role, name)]


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@pytest.fixture
def histories(db: Pool, host: PluginHost, district: DistrictBuilder) -> Histories:
    return Histories(db, host, district)


async def test_a_change_set_is_one_node_for_each_whom_it_changed(
    histories: Histories, district: DistrictBuilder
) -> None:
    """All kinds and all channels of one person in one change set are one node; each cell names its channel (D28)."""
    people = [await district.person(f"Ada {n}") for n in range(3)]
    await histories.change_set(noon(DAY))
    await histories.change("PERSON", *people, masks={"turned_on": 3})
    await histories.change(
        "PERSON", people[1], channel=("EMAIL", "EMAIL"), masks={"turned_on": 1, "turned_off": 2}
    )
    await histories.change("PERSON", people[0], people[1], kind="CONTACT_POINTS")
    assert await histories.nodes(IdKind.PERSON, people[1]) == [
        {
            "revision": "1", "kinds": ["PREFERENCES", "CONTACT_POINTS"], "source": "ADMIN", "actor": "ADMIN:boss",
            "person": {"id": encode_id(IdKind.PERSON, people[1])}, "household": None,
            "turnedOn": [
                {"contactPoint": "CELL_PHONE", "method": "VOICE", "reason": "EMERGENCY"},
                {"contactPoint": "CELL_PHONE", "method": "VOICE", "reason": "ATTENDANCE"},
                {"contactPoint": "EMAIL", "method": "EMAIL", "reason": "EMERGENCY"},
            ],
            "turnedOff": [{"contactPoint": "EMAIL", "method": "EMAIL", "reason": "ATTENDANCE"}],
        }
    ]  # fmt: skip
    assert [node["kinds"] for node in await histories.nodes(IdKind.PERSON, people[2])] == [["PREFERENCES"]]


async def test_masks_of_one_row_are_told_apart(histories: Histories, district: DistrictBuilder) -> None:
    """In a row with many people each of them has their own masks, the first and the last too, and who stands between
    two of them has none."""
    people = [await district.person(f"Ada {n}") for n in range(5)]
    await histories.change_set(noon(DAY))
    masks = {people[0]: {"turned_on": 1}, people[2]: {"turned_off": 1}, people[4]: {"turned_on": 2}}
    row = packed_change(1, "PERSON", "PREFERENCES", masks)
    await district.insert("change", **row, contact_point="EMAIL", method="EMAIL")
    told = [
        [
            (len(node["turnedOn"]), len(node["turnedOff"]))
            for node in await histories.nodes(IdKind.PERSON, person)
        ]
        for person in people
    ]
    assert told == [[(1, 0)], [], [(0, 1)], [], [(1, 0)]]


async def test_a_members_history_has_the_households_changes_of_their_days(
    histories: Histories, district: DistrictBuilder
) -> None:
    """A change of a household stands in the history of everybody who was an active member on that day, first and last
    day included, once however often they are a member (D5, D6); in the household's own it always stands."""
    ada, sam = await district.person("Ada Lane"), await district.person("Sam Lane")
    home = await district.household(ada)
    day = timedelta(days=1)
    await district.join(home, ada)
    await district.join(home, sam, (DAY, DAY + day))
    for n in range(-1, 3):
        await histories.change_set(noon(DAY + n * day))
        await histories.change(
            "HOUSEHOLD", home, channel=("HOUSEHOLD_PHONE", "VOICE"), masks={"turned_on": 1}
        )
        await histories.change("PERSON", sam, kind="PERSON")
    assert await histories.revisions(IdKind.HOUSEHOLD, home) == [4, 3, 2, 1]
    assert await histories.revisions(IdKind.PERSON, ada) == [4, 3, 2, 1]
    told = await histories.nodes(IdKind.PERSON, sam)
    assert [(int(node["revision"]), node["household"] is not None) for node in told] == [
        (4, False), (3, True), (3, False), (2, True), (2, False), (1, False),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
async def test_the_days_of_membership_are_told_by_times_not_by_revisions(
    histories: Histories, district: DistrictBuilder, seed: int
) -> None:
    """Transactions that lasted some hours have revisions in another order than their times, and revisions may have
    been folded away: a member's history still has all changes of their days, and no others (D6, D28)."""
    chance = random.Random(seed)
    sam = await district.person("Sam Lane")
    home = await district.household()
    spans = [(DAY + timedelta(days=first), DAY + timedelta(days=first + 2)) for first in (5, 12)]
    for span in spans:
        await district.join(home, sam, span)
    expected = []
    for hour in range(0, 24 * 20, 3):
        at = noon(DAY) + timedelta(hours=hour - chance.randrange(22))
        if chance.random() < 0.2:
            histories.revision += 1  # folded away
        revision = await histories.change_set(at)
        await histories.change(
            "HOUSEHOLD", home, channel=("HOUSEHOLD_PHONE", "VOICE"), masks={"turned_on": 1}
        )
        if any(first <= at.date() <= last for first, last in spans):
            expected.append(revision)
    assert await histories.revisions(IdKind.PERSON, sam) == sorted(expected, reverse=True)


@pytest.mark.parametrize(
    ("zone", "hour", "member"),
    [("UTC", 23, True), ("Pacific/Auckland", 23, False), ("UTC", 1, True), ("America/Chicago", 1, False)],
)
async def test_the_day_is_the_districts(
    db: Pool, host: PluginHost, district: DistrictBuilder, zone: str, hour: int, member: bool
) -> None:
    """Which day a change set belongs to is told by the district's time zone (D6)."""
    other = await DistrictBuilder.create(district.conn, host, "oak", zone)
    histories = Histories(db, host, other)
    ada = await other.person("Ada Lane")
    home = await other.household()
    await other.join(home, ada, (DAY, DAY))
    await histories.change_set(datetime(DAY.year, DAY.month, DAY.day, hour, tzinfo=UTC))
    await histories.change("HOUSEHOLD", home, kind="CONTACT_POINTS")
    assert await histories.revisions(IdKind.PERSON, ada) == [1] * member


async def test_the_portal_shows_ones_own_history(histories: Histories, district: DistrictBuilder) -> None:
    """A portal user sees what happened to themselves, and to a household only if they are a member today and were one
    on the day; no change of a relationship or of a household's members; of who did it the role alone. Of their students
    they see no history (D27)."""
    school = await district.school()
    mia = await district.person("Mia Lane", source_id="mia")
    sam = await district.student(school, "Sam Lane")
    await district.relate(sam, mia)
    home, flat = await district.household(sam), await district.household(sam)
    day = timedelta(days=1)
    await district.join(home, mia, (DAY, None))
    await district.join(flat, mia, (None, DAY + 9 * day))
    for n in (-1, 0):
        await histories.change_set(noon(DAY + n * day))
        for number in (home, flat):
            await histories.change("HOUSEHOLD", number, kind="CONTACT_POINTS")
            await histories.change("HOUSEHOLD", number, kind="MEMBERSHIP")
    await histories.change_set(noon(DAY + day))
    await histories.change("HOUSEHOLD", home, kind="MEMBERSHIP")
    await histories.change("PERSON", mia, sam, kind="RELATIONSHIP")
    await histories.change_set(noon(DAY + 2 * day))
    await histories.change("PERSON", mia, kind="RELATIONSHIP")
    await histories.change("PERSON", mia, sam, kind="MEMBERSHIP")
    as_mia = (Role.GUARDIAN, "mia")
    told = await histories.nodes(IdKind.PERSON, mia, *as_mia)
    assert [(node["revision"], node["kinds"], node["actor"]) for node in told] == [
        ("4", ["MEMBERSHIP"], "ADMIN"), ("2", ["CONTACT_POINTS"], "ADMIN"),
    ]  # fmt: skip
    assert await histories.revisions(IdKind.HOUSEHOLD, home, *as_mia) == [2]
    assert await histories.revisions(IdKind.HOUSEHOLD, flat, *as_mia) == []
    assert await histories.revisions(IdKind.PERSON, sam, *as_mia) == []
    page = await histories.ask(IdKind.PERSON, mia, *as_mia, first=1)
    last = await histories.ask(IdKind.PERSON, mia, *as_mia, first=1, after=page["pageInfo"]["endCursor"])
    assert [each["pageInfo"]["hasNextPage"] for each in (page, last)] == [True, False]
    assert await histories.revisions(IdKind.PERSON, mia) == [4, 3, 3, 2, 2, 1]  # the administrator


@pytest.mark.parametrize("first", [1, 2, 3, 7])
async def test_pages_lead_through_a_history_once(
    histories: Histories, district: DistrictBuilder, first: int
) -> None:
    """Pages of any size give every node once, newest first, also where several belong to one revision; a cursor holds
    the revision and whom the node is about, and goes on where a page ended whatever came meanwhile."""
    ada = await district.person("Ada Lane")
    homes = [await district.household(ada) for _ in range(3)]
    for n in range(5):
        await histories.change_set(noon(DAY + timedelta(days=n)))
        await histories.change("HOUSEHOLD", *homes[: n + 1], kind="CONTACT_POINTS")
        await histories.change("PERSON", ada, kind="PERSON")
    whole = await histories.nodes(IdKind.PERSON, ada)
    assert len(whole) == 5 + 1 + 2 + 3 + 3 + 3
    walked, after = [], None
    while after is not None or not walked:
        page = await histories.ask(IdKind.PERSON, ada, first=first, after=after)
        walked += [edge["node"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
        await histories.change_set(noon(DAY))
        await histories.change("PERSON", ada, kind="PERSON")
    assert walked == whole
