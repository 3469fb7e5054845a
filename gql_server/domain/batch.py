"""The cells of a batch, and their validation (D13)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gql_server.domain.cells import reason_errors, too_many_cells
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.reasons import ReasonBits
from gql_server.errors import UserError


class Setting(StrEnum):
    """What a batch does with a cell (D13)."""

    NO_CHANGE = "NO_CHANGE"
    ON = "ON"
    OFF = "OFF"


class FilterKind(StrEnum):
    """Whom a saved filter selects (D11, D12)."""

    STUDENT = "STUDENT"
    CENSUS = "CENSUS"


class PlanningStep(StrEnum):
    """The steps of planning a run, in order."""

    SELECTING_PEOPLE = "SELECTING_PEOPLE"
    FINDING_CHANNELS = "FINDING_CHANNELS"
    ASKING_RULES = "ASKING_RULES"
    WRITING_PLAN = "WRITING_PLAN"


@dataclass(frozen=True, slots=True)
class Cell:
    """One contact point and reason, and what to do with it (D13)."""

    contact_point: ContactPointKind
    reason: str
    set: Setting


@dataclass(frozen=True, slots=True)
class ChannelMasks:
    """The reasons, as bits, that are turned on and off for one contact point."""

    contact_point: ContactPointKind
    on_mask: int
    off_mask: int


def named_cells(cells: Sequence[Cell], bits: ReasonBits) -> tuple[list[Cell], list[UserError]]:
    """Return the distinct ON and OFF cells, and the errors of the list.

    Errors: UNKNOWN_REASON, REASON_NOT_SET_UP, CONFLICTING_CELLS (D13), NO_CELLS, TOO_MANY_CELLS.
    """
    if errors := too_many_cells(cells):
        return [], errors
    errors = reason_errors(((cell.contact_point, cell.reason, cell.set) for cell in cells), bits)
    distinct: dict[tuple[ContactPointKind, str], Cell] = {}
    for cell in cells:
        if cell.reason in bits:
            distinct.setdefault((cell.contact_point, cell.reason), cell)
    named = [cell for cell in distinct.values() if cell.set is not Setting.NO_CHANGE]
    if not errors and not named:
        errors.append(UserError("NO_CELLS", "No cell is set to ON or OFF. Name at least one.", ("cells",)))
    return named, errors


def channel_masks(cells: Iterable[Cell], bits: ReasonBits) -> list[ChannelMasks]:
    """Return the masks of each contact point that the cells name, in the order of the matrix."""
    on = dict.fromkeys(ContactPointKind, 0)
    off = dict.fromkeys(ContactPointKind, 0)
    for cell in cells:
        if cell.set is not Setting.NO_CHANGE:
            masks = on if cell.set is Setting.ON else off
            masks[cell.contact_point] |= 1 << bits[cell.reason]
    return [ChannelMasks(kind, on[kind], off[kind]) for kind in ContactPointKind if on[kind] | off[kind]]
