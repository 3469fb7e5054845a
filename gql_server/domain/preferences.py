"""The cells of a write to one person or household, and their validation (D2, D5, D22)."""

from collections.abc import Sequence
from dataclasses import dataclass

from gql_server.domain.batch import ChannelMasks
from gql_server.domain.cells import reason_errors, too_many_cells
from gql_server.domain.channels import HOUSEHOLD_CHANNELS, PERSON_CHANNELS, Channel, ContactPointKind, Method
from gql_server.domain.reasons import ReasonBits
from gql_server.errors import UserError


@dataclass(frozen=True, slots=True)
class PreferenceCell:
    """One channel and reason, and whether the preference shall be on."""

    contact_point: ContactPointKind
    method: Method
    reason: str
    on: bool

    @property
    def channel(self) -> Channel:
        return Channel(self.contact_point, self.method)


def validate_cells(cells: Sequence[PreferenceCell], bits: ReasonBits, *, household: bool) -> list[UserError]:
    """Return the errors of the cells.

    Errors: NO_CELLS, TOO_MANY_CELLS, UNKNOWN_REASON, REASON_NOT_SET_UP, INVALID_CHANNEL, CONFLICTING_CELLS.

    A household has only the household phone, a person has every other contact point (D5). A phone is used by VOICE
    and TEXT, an email address by EMAIL (D2).
    """
    if not cells:
        return [UserError("NO_CELLS", "No preference is named. Name at least one.", ("cells",))]
    if errors := too_many_cells(cells):
        return errors
    channels = HOUSEHOLD_CHANNELS if household else PERSON_CHANNELS
    invalid = [
        UserError("INVALID_CHANNEL", _invalid_channel(cell.channel, household), ("cells", str(index)))
        for index, cell in enumerate(cells)
        if cell.channel not in channels
    ]
    others = reason_errors(((str(cell.channel), cell.reason, cell.on) for cell in cells), bits)
    return sorted([*invalid, *others], key=lambda error: int((error.path or ("cells", "0"))[1]))


def _invalid_channel(channel: Channel, household: bool) -> str:
    """Return a message that says why a channel cannot be set, and which ones can."""
    name = str(channel)
    if household and channel in PERSON_CHANNELS:
        return f"{name} is a person's own. Set it with `setPreferences`."
    if not household and channel in HOUSEHOLD_CHANNELS:
        return f"{name} belongs to a household. Set it with `setHouseholdPreferences`."
    channels = HOUSEHOLD_CHANNELS if household else PERSON_CHANNELS
    names = ", ".join(map(str, channels))
    return f"{name} is not a channel. Use one of {names}."


def cell_masks(cells: Sequence[PreferenceCell], bits: ReasonBits) -> dict[Channel, ChannelMasks]:
    """Return the bits to turn on and off for each channel of the cells. The cells must be valid."""
    masks: dict[Channel, ChannelMasks] = {}
    for cell in cells:
        bit = 1 << bits[cell.reason]
        old = masks.get(cell.channel, ChannelMasks(cell.contact_point, 0, 0))
        on, off = (bit, 0) if cell.on else (0, bit)
        masks[cell.channel] = ChannelMasks(cell.contact_point, old.on_mask | on, old.off_mask | off)
    return masks
