"""The cells of a write to one person or household, checked without a database (D2, D5, D22)."""

from collections.abc import Sequence
from dataclasses import dataclass

from gql_server.domain.batch import ChannelMasks
from gql_server.domain.channels import HOUSEHOLD_CHANNELS, PERSON_CHANNELS, Channel, ContactPointKind, Method
from gql_server.domain.limits import MAX_CELLS, list_excess
from gql_server.domain.reasons import ReasonBits
from gql_server.errors import UserError


@dataclass(frozen=True, slots=True)
class PreferenceCell:
    """One channel and reason, and whether it is to be on."""

    contact_point: ContactPointKind
    method: Method
    reason: str
    on: bool

    @property
    def channel(self) -> Channel:
        return Channel(self.contact_point, self.method)


def cell_errors(cells: Sequence[PreferenceCell], bits: ReasonBits, *, household: bool) -> list[UserError]:
    """Return what is wrong with the cells.

    Errors: NO_CELLS, TOO_MANY_CELLS, UNKNOWN_REASON, REASON_NOT_SET_UP, INVALID_CHANNEL, CONFLICTING_CELLS.

    A household has only its phone, a person has all but that (D5); phones are reached by VOICE and TEXT,
    emails by EMAIL (D2).
    """
    if not cells:
        return [UserError("NO_CELLS", "No preference is named. Name at least one.", ("cells",))]
    if excess := list_excess("cells", cells, MAX_CELLS):
        return [UserError("TOO_MANY_CELLS", excess, ("cells",))]
    channels = HOUSEHOLD_CHANNELS if household else PERSON_CHANNELS
    errors: list[UserError] = []
    seen: dict[tuple[Channel, str], bool] = {}
    for index, cell in enumerate(cells):
        path = ("cells", str(index))
        if cell.channel not in channels:
            errors.append(UserError("INVALID_CHANNEL", _misplaced(cell.channel, household), path))
        if cell.reason not in bits:
            errors.append(bits.unknown(cell.reason, (*path, "reason")))
        if seen.setdefault((cell.channel, cell.reason), cell.on) is not cell.on:
            name = f"{cell.contact_point} by {cell.method} × {cell.reason}"
            words = f"{name} is named both on and off. Name it once."
            errors.append(UserError("CONFLICTING_CELLS", words, path))
    return errors


def _misplaced(channel: Channel, household: bool) -> str:
    """Return in words why a channel cannot be set, and what can."""
    name = f"{channel.contact_point} by {channel.method}"
    if household and channel in PERSON_CHANNELS:
        return f"{name} is a person's own. Set it with `setPreferences`."
    if not household and channel in HOUSEHOLD_CHANNELS:
        return f"{name} belongs to a household. Set it with `setHouseholdPreferences`."
    channels = HOUSEHOLD_CHANNELS if household else PERSON_CHANNELS
    names = ", ".join(f"{kind} by {method}" for kind, method in channels)
    return f"{name} is no channel. Use one of {names}."


def cell_masks(cells: Sequence[PreferenceCell], bits: ReasonBits) -> dict[Channel, ChannelMasks]:
    """Return the bits to turn on and off for each channel that the cells name. The cells have no errors."""
    masks: dict[Channel, ChannelMasks] = {}
    for cell in cells:
        bit = 1 << bits[cell.reason]
        old = masks.get(cell.channel, ChannelMasks(cell.contact_point, 0, 0))
        on, off = (bit, 0) if cell.on else (0, bit)
        masks[cell.channel] = ChannelMasks(cell.contact_point, old.on_mask | on, old.off_mask | off)
    return masks
