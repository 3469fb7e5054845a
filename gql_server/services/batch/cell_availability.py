"""Cells that are not enabled: the district switched them off, or they would reach nobody selected (D15)."""

from collections.abc import Container, Mapping, Sequence

from gql_server.db.protocols import Connection
from gql_server.db.statements import fetch
from gql_server.domain.batch import Cell
from gql_server.domain.channels import ContactPointKind
from gql_server.errors import UserError

CODE = "CELL_NOT_ENABLED"


async def switched_off(conn: Connection, district_id: int, cells: Sequence[Cell]) -> dict[Cell, str]:
    """Return words for each cell that the district switched off."""
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


def out_of_reach(cells: Sequence[Cell], unreachable: Container[ContactPointKind]) -> dict[Cell, str]:
    """Return words for each cell of a contact point that nobody selected has on record."""
    return {
        cell: f"{_name(cell)} is not enabled: nobody selected has {_a(cell.contact_point)} on record."
        " Leave it out, or select other people."
        for cell in cells
        if cell.contact_point in unreachable
    }


def not_enabled(words: Mapping[Cell, str], named: Sequence[Cell] = ()) -> list[UserError]:
    """Return an error for each cell, with the path to where the request names it."""
    return [UserError(CODE, message, _path(cell, named)) for cell, message in words.items()]


def _path(cell: Cell, named: Sequence[Cell]) -> tuple[str, ...] | None:
    return ("cells", str(named.index(cell))) if cell in named else None


def _name(cell: Cell) -> str:
    return f"The cell {cell.contact_point} × {cell.reason}"


def _a(kind: ContactPointKind) -> str:
    return f"{'an' if kind is ContactPointKind.EMAIL else 'a'} {kind.words}"
