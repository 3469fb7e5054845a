"""Channels, reasons, cells and days: the rules that need no database."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gql_server.domain import viewer as viewer_module
from gql_server.domain.batch import Cell, ChannelMasks, Setting, channel_masks, named_cells
from gql_server.domain.channels import (
    HOUSEHOLD_CHANNELS,
    PERSON_CHANNELS,
    Channel,
    ContactPointKind,
    Method,
    batch_method,
    methods,
)
from gql_server.domain.reasons import ALL_REASONS, ReasonBits
from gql_server.domain.viewer import District, Role, Viewer

BITS = ReasonBits({"EMERGENCY": 0, "GENERAL": 4, "ATTENDANCE": 1})
PHONES = {kind for kind in ContactPointKind if "PHONE" in kind}
CELLS = st.builds(
    Cell, st.sampled_from(ContactPointKind), st.sampled_from([*BITS, "NO_REASON"]), st.sampled_from(Setting)
)


@pytest.mark.parametrize("kind", ContactPointKind)
def test_phones_are_reached_by_voice_and_text_and_emails_by_email(kind: ContactPointKind) -> None:
    """The methods of a contact point (D2)."""
    assert methods(kind) == ((Method.VOICE, Method.TEXT) if kind in PHONES else (Method.EMAIL,))
    assert kind.is_phone is (kind in PHONES)


@pytest.mark.parametrize("kind", ContactPointKind)
def test_a_batch_never_sets_text(kind: ContactPointKind) -> None:
    """People may pay for texts that they did not ask for (D14)."""
    assert batch_method(kind) is (Method.VOICE if kind in PHONES else Method.EMAIL)


def test_the_household_phone_is_no_persons_channel() -> None:
    """People and households have separate channels, and together all there are (D1, D5)."""
    assert {channel.contact_point for channel in HOUSEHOLD_CHANNELS} == {ContactPointKind.HOUSEHOLD_PHONE}
    every = {Channel(kind, method) for kind in ContactPointKind for method in methods(kind)}
    assert {*HOUSEHOLD_CHANNELS} | {*PERSON_CHANNELS} == every
    assert not {*HOUSEHOLD_CHANNELS} & {*PERSON_CHANNELS}


@given(codes=st.sets(st.sampled_from([*BITS])))
def test_codes_and_masks_are_the_same_thing(codes: set[str]) -> None:
    """A set of reasons becomes a mask and comes back in the matrix's order (D4)."""
    assert BITS.codes(BITS.mask(codes)) == [code for code in BITS if code in codes]
    assert BITS.mask(codes) & ALL_REASONS == BITS.mask(codes)


def test_reasons_are_in_the_order_of_their_bits() -> None:
    """The matrix's order does not depend on the order in which rows were read."""
    assert [*BITS] == ["EMERGENCY", "ATTENDANCE", "GENERAL"]


def test_a_reason_that_the_district_does_not_know_has_no_bit() -> None:
    """A mask is never made of a code that is not there."""
    with pytest.raises(KeyError):
        BITS.mask(["EMERGENCY", "NO_REASON"])


@given(mask=st.integers(0, 2**62 - 1))
def test_bits_of_reasons_that_are_gone_are_not_shown(mask: int) -> None:
    """A bit without a reason, such as that of a plug-in long gone, is passed over."""
    assert BITS.mask(BITS.codes(mask)) == mask & BITS.mask(BITS)


@given(cells=st.lists(CELLS, max_size=8))
def test_the_named_cells_are_those_set_on_or_off(cells: list[Cell]) -> None:
    """Each cell once, NO_CHANGE left out; unknown, conflicting and missing cells are errors (D13)."""
    named, errors = named_cells(cells, BITS)
    codes = {error.code for error in errors}
    known = {cell for cell in cells if cell.reason in BITS}
    keys = {(cell.contact_point, cell.reason) for cell in known}
    assert ("UNKNOWN_REASON" in codes) is any(cell.reason not in BITS for cell in cells)
    assert ("CONFLICTING_CELLS" in codes) is (len(keys) < len(known))
    if not codes - {"NO_CELLS"}:
        assert set(named) == {cell for cell in known if cell.set is not Setting.NO_CHANGE}
        assert ("NO_CELLS" in codes) is (not named)


@given(cells=st.lists(CELLS, max_size=8))
def test_an_error_of_a_cell_leads_to_the_cell(cells: list[Cell]) -> None:
    """Paths name the cell by its place, so that a form can mark it."""
    for error in named_cells(cells, BITS)[1]:
        assert error.path is not None
        if error.code != "NO_CELLS":
            cell = cells[int(error.path[1])]
            assert (error.code == "UNKNOWN_REASON") is (cell.reason not in BITS)


@given(cells=st.lists(CELLS, max_size=8))
def test_masks_turn_on_and_off_what_the_cells_say(cells: list[Cell]) -> None:
    """One pair of masks a contact point, in the matrix's order, with no bit both on and off (D13)."""
    named, errors = named_cells(cells, BITS)
    if errors:
        return
    masks = channel_masks(named, BITS)
    assert {
        Cell(mask.contact_point, code, setting)
        for mask in masks
        for setting, bits in ((Setting.ON, mask.on_mask), (Setting.OFF, mask.off_mask))
        for code in BITS.codes(bits)
    } == set(named)
    assert all(mask.on_mask & mask.off_mask == 0 for mask in masks)
    order = list(ContactPointKind)
    assert [mask.contact_point for mask in masks] == sorted({m.contact_point for m in masks}, key=order.index)


def test_a_cell_without_change_has_no_mask() -> None:
    """Cells that are not named are NO_CHANGE, and the other way round (D13)."""
    phone, email = ContactPointKind.CELL_PHONE, ContactPointKind.EMAIL
    cells = [Cell(email, "GENERAL", Setting.OFF), Cell(phone, "GENERAL", Setting.NO_CHANGE)]
    assert channel_masks(cells, BITS) == [ChannelMasks(email, 0, 1 << 4)]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("UTC", date(2026, 3, 1)),
        ("Pacific/Kiritimati", date(2026, 3, 2)),
        ("Pacific/Pago_Pago", date(2026, 3, 1)),
    ],
)
def test_today_is_the_districts_day(zone: str, day: date, monkeypatch: pytest.MonkeyPatch) -> None:
    """The day by which rows are active is that of the district's time zone, not of the server's (D6)."""

    class Noon(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Noon":
            return cls.fromtimestamp(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp(), tz)

    monkeypatch.setattr(viewer_module, "datetime", Noon)
    assert District(1, "maple", zone).today() == day


def test_changes_are_logged_under_the_role_and_the_person() -> None:
    """The actor of a change tells the role, and who it was where the token names a person (D28)."""
    district = District(1, "maple", "UTC")
    assert Viewer(district, Role.ADMIN).actor == "ADMIN"
    assert Viewer(district, Role.GUARDIAN, "P7").actor == "GUARDIAN:P7"
