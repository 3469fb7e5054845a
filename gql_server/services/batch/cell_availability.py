"""Cells that are not enabled: the district disabled them, or nobody selected has the contact point (D15)."""

from collections.abc import Container, Mapping, Sequence

from gql_server.db.protocols import Connection
from gql_server.db.statements import fetch
from gql_server.domain.batch import Cell
from gql_server.domain.channels import ContactPointKind
from gql_server.errors import UserError

CODE = "CELL_NOT_ENABLED"


async def disabled_cells(conn: Connection, district_id: int, cells: Sequence[Cell]) -> dict[Cell, str]:
    """Return a message for each cell that the district has switched off."""
    rows = await fetch(
        conn,
        "batch/request/disabled_cells",
        district_id=district_id,
        contact_points=[cell.contact_point for cell in cells],
        reasons=[cell.reason for cell in cells],
    )
    off = {(row["contact_point"], row["reason"]) for row in rows}
    return {
        cell: f"{_name(cell)} is not enabled: the district has switched it off. Leave it out."
        for cell in cells
        if (cell.contact_point, cell.reason) in off
    }


def unreachable_cells(cells: Sequence[Cell], unreachable: Container[ContactPointKind]) -> dict[Cell, str]:
    """Return a message for each cell of a contact point that nobody selected has on record."""
    return {
        cell: f"{_name(cell)} is not enabled: nobody selected has {_with_article(cell.contact_point)} on record."
        " Leave it out, or select other people."
        for cell in cells
        if cell.contact_point in unreachable
    }


def not_enabled_errors(messages: Mapping[Cell, str], named: Sequence[Cell] = ()) -> list[UserError]:
    """Return an error for each cell. Its path leads to the cell in `named`, the cells of the request."""
    return [UserError(CODE, message, _path(cell, named)) for cell, message in messages.items()]


def _path(cell: Cell, named: Sequence[Cell]) -> tuple[str, ...] | None:
    return ("cells", str(named.index(cell))) if cell in named else None


def _name(cell: Cell) -> str:
    return f"The cell {cell.contact_point} × {cell.reason}"


def _with_article(kind: ContactPointKind) -> str:
    return f"{'an' if kind is ContactPointKind.EMAIL else 'a'} {kind.label}"
