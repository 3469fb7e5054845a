"""A batch as the caller asked for it, before its ids are looked up."""

from dataclasses import dataclass

from gql_server.domain.batch import Cell
from gql_server.domain.limits import LABEL, MAX_GRADES, MAX_SCHOOLS, count_error
from gql_server.errors import UserError

MAX_WAIT_SECONDS = 60
WAIT_SECONDS = 10
"""How long a call waits by default for the end of its run."""


@dataclass(frozen=True, slots=True)
class ScopeInput:
    """What to narrow the mode to (D12). Ids are global ids. None: not given; an empty tuple: selects nobody."""

    school_ids: tuple[str, ...] | None = None
    school_year: int | None = None
    grades: tuple[str, ...] | None = None
    filter_id: str | None = None

    def validate_sizes(self) -> list[UserError]:
        """Return an error for each list that is too long: TOO_MANY_SCHOOLS, TOO_MANY_GRADES, INVALID_GRADE."""
        errors = []
        if message := count_error("schools", self.school_ids or (), MAX_SCHOOLS):
            errors.append(UserError("TOO_MANY_SCHOOLS", message, ("scope", "schoolIds")))
        if message := count_error("grades", self.grades or (), MAX_GRADES):
            errors.append(UserError("TOO_MANY_GRADES", message, ("scope", "grades")))
        elif message := next(filter(None, map(LABEL.length_error, self.grades or ())), None):
            errors.append(UserError("INVALID_GRADE", message, ("scope", "grades")))
        return errors


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """The input of a batch. `cells` may contain NO_CHANGE, and the same cell twice (D13).

    `idempotency_key`: see `services/batch/idempotency`.
    """

    mode: str
    scope: ScopeInput
    cells: tuple[Cell, ...]
    keep_chosen: bool = False
    dry_run: bool = False
    idempotency_key: str | None = None
