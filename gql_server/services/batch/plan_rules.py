"""The rules' part of a plan: what they deny goes into the temporary table `denied`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import structlog

from gql_server.db.protocols import Connection, Database, Row
from gql_server.db.statements import execute, fetchval, statement
from gql_server.domain.batch import ChannelMasks, PlanningStep
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.reasons import ReasonBits
from gql_server.hooks import Candidate, Deny, Sql
from gql_server.hooks.host import OwnedRule
from gql_server.services.batch.check_thread import CheckThread, DistrictData
from gql_server.services.batch.plugin_sql import Fragment, plugin_sql
from gql_server.services.batch.progress import PlanProgress
from gql_server.services.batch.rules import (
    CHECK_CHUNK,
    RuleLimits,
    ask_check,
    denied_mask,
    spoken_of,
)
from gql_server.services.batch.run import Run

_log = structlog.get_logger(__name__)
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
class Barring:
    """Rules that bar channels, by their numbers."""

    rules: Mapping[int, OwnedRule]

    def number(self) -> Sql:
        """Return an expression over the row `c` of a candidate: the number of the rule that bars it, or null."""
        bars = {
            f"bars_{number}": owned.rule.deny_channel_when
            for number, owned in self.rules.items()
            if owned.rule.deny_channel_when
        }
        cases = [f"when ({{bars_{number}}}) then {number}" for number in self.rules]
        text = f"(case {' '.join(cases)} end)::smallint" if cases else "null::smallint"
        return Sql(text).fill(**bars)

    @property
    def fragments(self) -> Sequence[Fragment]:
        """The SQL of these rules, to be blamed for its errors."""
        return [Fragment.of(owned) for owned in self.rules.values()]


@dataclass(frozen=True, slots=True)
class PlanRules:
    """Asks the rules about the candidates of one plan, on the connection of its transaction."""

    db: Database
    conn: Connection
    run: Run
    masks: Sequence[ChannelMasks]
    bits: ReasonBits
    today: date
    limits: RuleLimits
    progress: PlanProgress

    async def bar(self, rules: Iterable[OwnedRule]) -> Barring:
        """Record the rules that bar channels and return them, to be asked where the candidates are found."""
        numbered = {
            await self._add(owned): owned for owned in rules if owned.rule.deny_channel_when is not None
        }
        return Barring(numbered)

    async def ask(self, rules: Iterable[OwnedRule]) -> None:
        """Ask each rule that speaks of a setting the run names, in the host's order. Raises PluginError.

        The measure of progress is candidates times rules.
        """
        await execute(self.conn, "batch/create_denied")
        asking = []
        for owned in rules:
            spoken = {m.contact_point: mask for m in self.masks if (mask := spoken_of(owned.rule, m))}
            if spoken and owned.rule.deny_channel_when is None:
                asking.append(_Asked(await self._add(owned), owned, spoken))
        self.progress.begin(PlanningStep.ASKING_RULES, len(asking) * self.progress.candidates)
        for place, asked in enumerate(asking, start=1):
            await self._ask(asked)
            self.progress.done = place * self.progress.candidates

    async def _add(self, owned: OwnedRule) -> int:
        """Record a rule and return its number."""
        stamp = {"plugin": owned.plugin, "rule": owned.rule.name, "because": owned.rule.because}
        number: int = await fetchval(self.conn, "batch/add_rule", **self.run.key, **stamp)
        return number

    async def _ask(self, asked: _Asked) -> None:
        rule = asked.owned.rule
        if rule.deny_select is not None:
            await self._select(asked, rule.deny_select, because=Sql("null::text"))
        else:
            await self._check(asked)

    async def _select(self, asked: _Asked, denies: Sql, because: Sql) -> None:
        async with plugin_sql(self.conn, Fragment.of(asked.owned), seconds=self.limits.statement_seconds):
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
        # A check that ends the process leaves no other trace: the last of these lines names who was asked.
        names = {"plugin": asked.owned.plugin, "rule": asked.owned.rule.name}
        _log.info("batch_check_asked", run=self.run.run_id, **names)
        data = DistrictData(self.db, self.run.district.district_id, self.today)
        cursor = await self.conn.cursor(statement("batch/candidates").text)
        with CheckThread(asked.owned.plugin, data) as thread:
            while rows := await cursor.fetch(CHECK_CHUNK):
                candidates = [_candidate(row) for row in rows]
                verdicts = await ask_check(asked.owned, candidates, thread, self.limits.check_seconds)
                records = [
                    self._record(asked, row, verdict)
                    for row, verdict in zip(rows, verdicts, strict=True)
                    if isinstance(verdict, Deny)
                ]
                if records:
                    await self.conn.copy_records_to_table("answer", records=records, columns=_COLUMNS)
                self.progress.advance(len(rows))
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
