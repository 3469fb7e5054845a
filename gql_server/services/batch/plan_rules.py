"""The rules' part of a plan: what they deny goes into the temporary table `denied`."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from gql_server.db.protocols import Connection, Database, Row
from gql_server.db.statements import execute, statement
from gql_server.domain.batch import ChannelMasks
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.reasons import ReasonBits
from gql_server.hooks import Candidate, Deny, Sql
from gql_server.hooks.host import OwnedRule
from gql_server.services.batch.rules import (
    CHECK_CHUNK,
    DistrictReader,
    ask_check,
    blaming,
    denied_mask,
    spoken_of,
)
from gql_server.services.batch.run import Run

_COLUMNS = ("household", "subject_id", "contact_point", "reasons", "because")


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

    async def ask(self, rules: Iterable[OwnedRule]) -> None:
        """Ask each rule that speaks of a setting the run names, in the host's order. Raises PluginError."""
        await execute(self.conn, "batch/create_denied")
        for number, owned in enumerate(rules, start=1):
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
        async with self.db.acquire() as reading, reading.transaction(readonly=True):
            reader = DistrictReader(reading, self.run.district.district_id, self.today)
            async for rows in self._chunks():
                verdicts = await ask_check(asked.owned, [_candidate(row) for row in rows], reader)
                records = [
                    self._record(asked, row, verdict)
                    for row, verdict in zip(rows, verdicts, strict=True)
                    if isinstance(verdict, Deny)
                ]
                await self.conn.copy_records_to_table("answer", records=records, columns=_COLUMNS)
        await self._select(asked, Sql("select * from answer"), because=Sql("d.because"))
        await execute(self.conn, "batch/drop_answer")

    async def _chunks(self) -> AsyncIterator[list[Row]]:
        rows: list[Row] = []
        async for row in self.conn.cursor(statement("batch/candidates").text, prefetch=CHECK_CHUNK):
            rows.append(row)
            if len(rows) == CHECK_CHUNK:
                yield rows
                rows = []
        if rows:
            yield rows

    def _record(self, asked: _Asked, row: Row, deny: Deny) -> tuple[object, ...]:
        """Return the row of `answer` for a check's no."""
        reasons = denied_mask(asked.owned, deny, self.bits)
        return (row["household"], row["subject_id"], row["contact_point"], reasons, deny.because)


def _candidate(row: Row) -> Candidate:
    return Candidate(
        person_id=None if row["household"] else row["subject_id"],
        household_id=row["subject_id"] if row["household"] else None,
        contact_point=ContactPointKind(row["contact_point"]),
        method=Method(row["method"]),
        address=row["address"],
    )
