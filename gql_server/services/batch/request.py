"""What a caller asks of a batch, as the caller gave it."""

from dataclasses import dataclass

from gql_server.domain.batch import Cell
from gql_server.domain.limits import LABEL, MAX_GRADES, MAX_SCHOOLS, list_excess
from gql_server.errors import UserError

MAX_WAIT_SECONDS = 60
WAIT_SECONDS = 10
"""How long a call waits for the end of its run unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class ScopeInput:
    """What to narrow the mode to (D12). Ids are global ids. None: not given; an empty tuple: nobody fits."""

    school_ids: tuple[str, ...] | None = None
    school_year: int | None = None
    grades: tuple[str, ...] | None = None
    filter_id: str | None = None

    def excesses(self) -> list[UserError]:
        """Return what is out of all bounds: TOO_MANY_SCHOOLS, TOO_MANY_GRADES, INVALID_GRADE."""
        errors = []
        if words := list_excess("schools", self.school_ids or (), MAX_SCHOOLS):
            errors.append(UserError("TOO_MANY_SCHOOLS", words, ("scope", "schoolIds")))
        if words := list_excess("grades", self.grades or (), MAX_GRADES):
            errors.append(UserError("TOO_MANY_GRADES", words, ("scope", "grades")))
        elif words := next(filter(None, map(LABEL.excess, self.grades or ())), None):
            errors.append(UserError("INVALID_GRADE", words, ("scope", "grades")))
        return errors


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One press of the wizard's button. `cells` may name NO_CHANGE and name a cell twice (D13).

    `idempotency_key`: with the same key the same request answers the same run.
    """

    mode: str
    scope: ScopeInput
    cells: tuple[Cell, ...]
    keep_chosen: bool = False
    dry_run: bool = False
    idempotency_key: str | None = None
