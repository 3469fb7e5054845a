"""Reasons that a server registers with a district that has some are a change set (D3, D28)."""

import asyncio
from dataclasses import replace

import pytest

from gql_server.db.pool import Pool
from gql_server.domain.changes import SubjectKind
from gql_server.hooks.host import OwnedReason, PluginHost
from gql_server.services.districts import register_reasons
from gql_server.services.log import Place, read_page
from tests.support.builder import DistrictBuilder


@pytest.fixture
def more(host: PluginHost) -> list[OwnedReason]:
    """The reasons of the built-in plug-ins, one of them in other words, and two more."""
    first, *others = host.reasons
    added = [replace(first, code=code, label=code.title()) for code in ("BUS", "CLUB")]
    return [replace(first, label="In other words"), *others, *added]


async def register(db: Pool, reasons: list[OwnedReason]) -> int:
    async with db.transaction() as conn:
        return await register_reasons(conn, reasons)


async def test_a_new_district_begins_with_its_reasons(district: DistrictBuilder) -> None:
    """What a district is created with takes no revision (D28)."""
    assert (
        await district.conn.fetchval("select revision from district where district_id = $1", district.id) == 0
    )
    assert await read_page(district.conn, district.id, Place(), 10) == []


async def test_what_is_added_and_reworded_is_one_change_set(
    db: Pool, host: PluginHost, district: DistrictBuilder, more: list[OwnedReason]
) -> None:
    """Every district that something changed for gets one revision that names the bits, by the server (D3, D28)."""
    birch = await DistrictBuilder.create(district.conn, host, "birch")
    assert await register(db, more) == 4
    for builder in (district, birch):
        feed = await read_page(builder.conn, builder.id, Place(), 10)
        bits = [0, *sorted(await district.conn.fetchval(
            "select array_agg(bit) from contact_reason where district_id = $1 and code in ('BUS', 'CLUB')", builder.id
        ))]  # fmt: skip
        assert [node.place for node in feed] == [Place(1, SubjectKind.REASON, bit) for bit in bits]
        assert {(node.origin.source, node.origin.actor, *node.kinds) for node in feed} == {
            ("ADMIN", "SERVER", "REASON")
        }


async def test_new_words_alone_reach_every_district(
    db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """New words for a reason are a change set of each district, where no reason is added too (D3, D28)."""
    first, *others = host.reasons
    assert await register(db, [replace(first, label="In other words"), *others]) == 0
    label = "select label from contact_reason where district_id = $1 and code = $2"
    assert await district.conn.fetchval(label, district.id, first.code) == "In other words"
    feed = await read_page(district.conn, district.id, Place(), 10)
    assert [(node.place, node.origin.actor) for node in feed] == [(Place(1, SubjectKind.REASON, 0), "SERVER")]


async def test_nothing_is_logged_when_nothing_changed(
    db: Pool, district: DistrictBuilder, more: list[OwnedReason]
) -> None:
    """A server that starts again takes no revision (D28)."""
    await register(db, more)
    assert await register(db, more) == 0
    assert (
        await district.conn.fetchval("select revision from district where district_id = $1", district.id) == 1
    )


async def test_servers_that_start_at_once_register_once(
    db: Pool, host: PluginHost, district: DistrictBuilder, more: list[OwnedReason]
) -> None:
    """Of several servers that start at the same time one registers the reasons, and each district is logged once."""
    birch = await DistrictBuilder.create(district.conn, host, "birch")
    added = await asyncio.gather(*(register(db, more) for _ in range(4)))
    assert sorted(added) == [0, 0, 0, 4]
    for builder in (district, birch):
        assert (
            await builder.conn.fetchval("select revision from district where district_id = $1", builder.id)
            == 1
        )
