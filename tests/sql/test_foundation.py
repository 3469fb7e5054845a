"""The database under the tests: migrated, with a district whose reasons have bits."""

from gql_server.db.migrations import pending
from tests.support.builder import DistrictBuilder


async def test_a_new_district_has_the_reasons_of_the_plugins(district: DistrictBuilder) -> None:
    """Every reason of the standard plug-in gets a bit, in the matrix's order (D3)."""
    assert list(district.bits)[:3] == ["EMERGENCY", "ATTENDANCE", "BEHAVIOR"]
    assert list(district.bits.values()) == list(range(8))


async def test_a_new_district_offers_no_teacher_calls(district: DistrictBuilder) -> None:
    """TEACHER is switched off on every phone, and on nothing else (D15)."""
    rows = await district.conn.fetch("select contact_point, reason from disabled_cell order by 1")
    assert [row["contact_point"] for row in rows] == [
        "HOUSEHOLD_PHONE",
        "HOME_PHONE",
        "WORK_PHONE",
        "CELL_PHONE",
    ]
    assert {row["reason"] for row in rows} == {"TEACHER"}


async def test_nothing_is_pending_after_migrate(district: DistrictBuilder) -> None:
    """A migrated database has every migration."""
    assert await pending(district.conn) == []
