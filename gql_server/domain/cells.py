"""What is validated alike in every list of cells: a batch's, and that of a single write (D13, D22)."""

from collections.abc import Iterable, Sequence

from gql_server.domain.limits import MAX_CELLS, count_error
from gql_server.domain.reasons import ReasonBits
from gql_server.errors import UserError


def too_many_cells(cells: Sequence[object]) -> list[UserError]:
    """Return TOO_MANY_CELLS for a list that is too long to be looked at, else no error."""
    message = count_error("cells", cells, MAX_CELLS)
    return [UserError("TOO_MANY_CELLS", message, ("cells",))] if message else []


def reason_errors(cells: Iterable[tuple[str, str, object]], bits: ReasonBits) -> list[UserError]:
    """Return UNKNOWN_REASON, REASON_NOT_SET_UP and CONFLICTING_CELLS, in the order of the cells.

    A cell is given as the name of what it sets, such as "CELL_PHONE by TEXT", its reason and its setting.
    """
    errors: list[UserError] = []
    settings: dict[tuple[str, str], object] = {}
    for index, (name, reason, setting) in enumerate(cells):
        path = ("cells", str(index))
        if reason not in bits:
            errors.append(bits.unknown(reason, (*path, "reason")))
        elif settings.setdefault((name, reason), setting) != setting:
            message = f"The cell {name} × {reason} is named twice with different settings. Name it once."
            errors.append(UserError("CONFLICTING_CELLS", message, path))
    return errors
