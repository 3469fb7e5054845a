"""A run that a worker has claimed."""

from dataclasses import dataclass
from datetime import datetime

from gql_server.db.protocols import Row
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.viewer import District
from gql_server.hooks import RunSummary
from gql_server.services.batch.scope import RecordedScope


class LeaseLost(Exception):
    """The run was cancelled, or another worker has claimed it. This worker must not write any more."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it was when it was claimed, and the owner of its lease.

    plan_only: the run ends as PLANNED. planned_at: set if an existing plan is applied. reverts: the number of the run
    that this one reverts, or None. claims: how often the run was claimed since it last made progress.
    """

    district: District
    batch_run_id: int
    mode: str
    scope: RecordedScope
    keep_chosen: bool
    status: str
    requested_by: str
    plan_only: bool
    planned_at: datetime | None
    reverts: int | None
    claims: int
    lease_owner: str

    @classmethod
    def from_row(cls, row: Row, lease_owner: str) -> "Run":
        return cls(
            District(row["district_id"], row["code"], row["time_zone"]),
            row["batch_run_id"],
            row["mode"],
            RecordedScope.load(row["scope"]),
            row["keep_chosen"],
            row["status"],
            row["requested_by"],
            row["plan_only"],
            row["planned_at"],
            row["reverts_run_id"],
            row["claims"],
            lease_owner,
        )

    @property
    def key(self) -> dict[str, int]:
        return {"district_id": self.district.district_id, "batch_run_id": self.batch_run_id}

    @property
    def lease_key(self) -> dict[str, object]:
        """The run's key and its lease: parameters of the statements that only the run's worker may run."""
        return {**self.key, "lease_owner": self.lease_owner}

    @property
    def reverted_key(self) -> dict[str, object]:
        """The key of the run that this one reverts."""
        return {"district_id": self.district.district_id, "batch_run_id": self.reverts}

    @property
    def run_id(self) -> str:
        return encode_id(IdKind.BATCH_RUN, self.batch_run_id)

    def summary(self, status: str, population: int, run_id: str | None = None) -> RunSummary:
        """Return what plug-ins are told of a run that ended: this one, or the one that it has reverted."""
        return RunSummary(
            run_id=run_id or self.run_id,
            district=self.district.code,
            mode=self.mode,
            status=status,
            population=population,
        )


def summary_of(row: Row, district: str) -> RunSummary:
    """Return what plug-ins are told of a run that ended, from its row. district: the district's code."""
    return RunSummary(
        run_id=encode_id(IdKind.BATCH_RUN, row["batch_run_id"]),
        district=district,
        mode=row["mode"],
        status=row["status"],
        population=row["population"],
    )
