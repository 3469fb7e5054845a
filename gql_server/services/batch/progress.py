"""The progress of a plan. The plan is one transaction, so the worker saves the progress in another one."""

from dataclasses import dataclass

from gql_server.domain.batch import PlanningStep


@dataclass(slots=True)
class PlanProgress:
    """Updated by the plan and read by the worker at any time.

    `done` and `total` belong to the step and have its unit; `total` is 0 if it is not known.
    `candidates`: the number of channels that the rules are asked about, once it is known.
    """

    step: PlanningStep = PlanningStep.SELECTING_PEOPLE
    done: int = 0
    total: int = 0
    candidates: int = 0

    def begin(self, step: PlanningStep, total: int = 0) -> None:
        """Record that a step begins."""
        self.step, self.done, self.total = step, 0, total

    def advance(self, done: int = 1) -> None:
        """Record that so much more of the step is done."""
        self.done += done

    @property
    def columns(self) -> dict[str, object]:
        """The values to save."""
        return {"step": self.step, "done": self.done, "total": self.total}
