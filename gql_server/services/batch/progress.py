"""How far a plan is, told from inside its one transaction to the worker, which writes it down from outside."""

from dataclasses import dataclass

from gql_server.domain.batch import PlanningStep


@dataclass(slots=True)
class PlanProgress:
    """Noted by the plan, read by the worker at any time.

    `done` and `total` are of the step, in a measure of its own; `total` is 0 where it cannot be told.
    candidates: the channels that the rules are asked about, once they are found.
    """

    step: PlanningStep = PlanningStep.SELECTING_PEOPLE
    done: int = 0
    total: int = 0
    candidates: int = 0

    def begin(self, step: PlanningStep, total: int = 0) -> None:
        """Note that a step begins."""
        self.step, self.done, self.total = step, 0, total

    def advance(self, done: int = 1) -> None:
        """Note that so much more of the step is done."""
        self.done += done

    @property
    def noted(self) -> dict[str, object]:
        """What there is to write down."""
        return {"step": self.step, "done": self.done, "total": self.total}
