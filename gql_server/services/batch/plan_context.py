"""What all steps of a plan need."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from gql_server.db.protocols import Connection, Database
from gql_server.domain.batch import Cell, ChannelMasks
from gql_server.domain.reasons import ReasonBits
from gql_server.hooks import Context
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.progress import PlanProgress
from gql_server.services.batch.run import Run
from gql_server.services.rules.limits import RuleLimits
from gql_server.services.rules.relation import RelationRules


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan in the making: its run, its transaction, and what the run sets on which day."""

    db: Database
    conn: Connection
    host: PluginHost
    run: Run
    today: date
    cells: Sequence[Cell]
    bits: ReasonBits
    masks: Sequence[ChannelMasks]
    limits: RuleLimits
    progress: PlanProgress

    @property
    def fragment_args(self) -> dict[str, object]:
        """The parameters that SQL of plug-ins may use."""
        return {"district_id": self.run.district.district_id, "today": self.today}

    @property
    def relation_rules(self) -> RelationRules:
        """What asks the rules about the candidates of this plan."""
        return RelationRules(
            db=self.db,
            conn=self.conn,
            context=Context.BATCH,
            district_id=self.run.district.district_id,
            today=self.today,
            bits=self.bits,
            limits=self.limits,
            advance=self.progress.advance,
        )
