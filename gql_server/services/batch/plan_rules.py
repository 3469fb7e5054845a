"""The rules' part of a plan: what they deny goes into the temporary table `denied`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from gql_server.db.protocols import Connection, Database, Row
from gql_server.db.statements import execute, fetchval, statement
from gql_server.domain.batch import ChannelMasks
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.reasons import ReasonBits
from gql_server.hooks import Candidate, Deny, Sql
from gql_server.hooks.host import OwnedRule
from gql_server.services.batch.check_thread import CheckThread, DistrictData
from gql_server.services.batch.rules import (
    CHECK_CHUNK,
    ask_check,
    blaming,
    denied_mask,
    spoken_of,
)
from gql_server.services.batch.run import Run

_COLUMNS = ("household", "subject_id", "contact_point", "reasons", "because")
# Looked up, not constructed: a rule may be asked about a million candidates.
_KINDS = {kind.value: kind for kind in ContactPointKind}
_METHODS = {method.value: method for method in Method}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A rule, its place in the order, and the bits of each contact point that it speaks of."""

    number: int
    owned: OwnedRule
    spoken: dict[ContactPointKind, int]


@dataclass(frozen=True, slots=True)
class PlanRules:
    """Asks the rules about the candidates of one plan, on the connection of its transaction."""

    db: Database
    conn: Connection
    run: Run
    masks: Sequence[ChannelMasks]
    bits: ReasonBits
    today: date
    check_seconds: float

    async def ask(self, rules: Iterable[OwnedRule]) -> None:
        """Ask each rule that speaks of a setting the run names, in the host's order. Raises PluginError."""
        await execute(self.conn, "batch/create_denied")
        last: int = await fetchval(self.conn, "batch/last_rule", **self.run.key)
        for number, owned in enumerate(rules, start=last + 1):
            spoken = {m.contact_point: mask for m in self.masks if (mask := spoken_of(owned.rule, m))}
            if spoken:
                await self._ask(_Asked(number, owned, spoken))

    async def _ask(self, asked: _Asked) -> None:
        rule = asked.owned.rule
        stamp = {"plugin": asked.owned.plugin, "rule": rule.name, "because": rule.because}
        await execute(self.conn, "batch/add_rule", **self.run.key, rule_no=asked.number, **stamp)
        if rule.denies is not None:
            await self._select(asked, rule.denies, because=Sql("null::text"))
        else:
            await self._check(asked)

    async def _select(self, asked: _Asked, denies: Sql, because: Sql) -> None:
        with blaming(asked.owned.plugin, f"rule {asked.owned.rule.name!r}"):
            await execute(
                self.conn,
                statement("batch/deny").fill(denies=denies, because=because),
                district_id=self.run.district.district_id,
                today=self.today,
                rule_no=asked.number,
                contact_points=list(asked.spoken),
                masks=list(asked.spoken.values()),
            )

    async def _check(self, asked: _Asked) -> None:
        """Ask a check about all candidates; its answers then go the way of those in SQL."""
        await execute(self.conn, "batch/create_answer")
        data = DistrictData(self.db, self.run.district.district_id, self.today)
        cursor = await self.conn.cursor(statement("batch/candidates").text)
        with CheckThread(asked.owned.plugin, data) as thread:
            while rows := await cursor.fetch(CHECK_CHUNK):
                candidates = [_candidate(row) for row in rows]
                verdicts = await ask_check(asked.owned, candidates, thread, self.check_seconds)
                records = [
                    self._record(asked, row, verdict)
                    for row, verdict in zip(rows, verdicts, strict=True)
                    if isinstance(verdict, Deny)
                ]
                if records:
                    await self.conn.copy_records_to_table("answer", records=records, columns=_COLUMNS)
        await self._select(asked, Sql("select * from answer"), because=Sql("d.because"))
        await execute(self.conn, "batch/drop_answer")

    def _record(self, asked: _Asked, row: Row, deny: Deny) -> tuple[object, ...]:
        """Return the row of `answer` for a check's no."""
        reasons = denied_mask(asked.owned, deny, self.bits)
        return (row["household"], row["subject_id"], row["contact_point"], reasons, deny.because)


def _candidate(row: Row) -> Candidate:
    household, subject_id, contact_point, method, address = row.values()
    kind, how = _KINDS[contact_point], _METHODS[method]
    if household:
        return Candidate(None, subject_id, kind, how, address)
    return Candidate(subject_id, None, kind, how, address)
