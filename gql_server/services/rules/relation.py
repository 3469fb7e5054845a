"""Asks rules about the relation `candidate` of an open transaction, such as a plan's: there may be millions of rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from gql_server.db.plugin_errors import SeveralSuspects
from gql_server.db.protocols import Connection, Database, Row
from gql_server.db.statements import execute, statement
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.sql import Sql
from gql_server.hooks import Candidate, Context, Defer, Deny, Verdict
from gql_server.hooks.host import OwnedRule
from gql_server.services.rules.check_thread import CheckThread, DistrictData
from gql_server.services.rules.checks import ask_check, denied_mask
from gql_server.services.rules.limits import CHECK_CHUNK, RuleLimits
from gql_server.services.rules.plugin_sql import ask_together, fragments_of, is_built_in, plugin_sql
from gql_server.services.rules.rule_set import NumberedRules, denials, denied_by, setting_bits

_COLUMNS = (
    "rule_no", "household", "subject_id", "contact_point", "method", "on_reasons", "off_reasons",
    "code", "because", "remedy",
)  # fmt: skip
# Looked up, not constructed: a rule may be asked about a million candidates.
_KINDS = {kind.value: kind for kind in ContactPointKind}
_METHODS = {method.value: method for method in Method}


@dataclass(frozen=True, slots=True)
class RelationRules:
    """Asks about the rows of `candidate`, and adds what the rules deny to `denial` (see batch/plan/relations.sql).

    It does not look whether they deny what is no candidate: whoever joins the two finds that out.
    advance: called with the number of candidates that a rule has been asked about, as often as that grows.
    """

    db: Database
    conn: Connection
    context: Context
    district_id: int
    today: date
    bits: ReasonBits
    limits: RuleLimits
    advance: Callable[[int], None]

    async def ask_conditions(
        self,
        rules: NumberedRules,
        find: Sql,
        slots: Mapping[str, Sql] = MappingProxyType({}),
        early: NumberedRules = MappingProxyType({}),
        **args: object,
    ) -> int:
        """Ask conditions in the statement that finds the channels they are about. Return how many it finds.

        find: its slot `denied_by` takes the conditions; `slots` has the others. early: the rules whose SQL is in these.
        args: its parameters, other than district_id and today. Raises PluginError.
        """

        async def ask(asked: NumberedRules, query: Sql, **others: Sql) -> int:
            async with self._watched({**asked, **early} if others else asked):
                filled = query.fill(denied_by=denied_by(asked), **others)
                return await execute(
                    self.conn, filled, district_id=self.district_id, today=self.today, **args
                )

        try:
            return await ask(rules, find, **slots)
        except SeveralSuspects:
            if is_built_in({**rules, **early}):
                raise
            # As in `ask_together`, but the channels are found once.
            found = await ask({}, find, **slots)
            for number, owned in rules.items():
                await ask({number: owned}, statement("rules/deny_channels"))
            return found

    async def ask_selects(self, rules: NumberedRules) -> None:
        """Ask all rules in SQL, in one statement if possible. Raises PluginError."""
        if rules and is_built_in(rules):
            await self._insert_denials(rules)
        elif rules:
            await ask_together(rules, self._insert_denials)

    async def ask_check(self, number: int, owned: OwnedRule) -> None:
        """Ask a rule in Python about all candidates, chunk by chunk, in a thread of its own. Raises PluginError."""
        cursor = await self.conn.cursor(statement("rules/candidates").text)
        with CheckThread(owned.plugin, DistrictData(self.db, self.district_id, self.today)) as thread:
            while rows := await cursor.fetch(CHECK_CHUNK):
                candidates = [_candidate(row) for row in rows]
                verdicts = await ask_check(owned, candidates, thread, self.limits.check_seconds, self.context)
                records = [*self._records(number, owned, rows, verdicts)]
                if records:
                    await self.conn.copy_records_to_table("denial", records=records, columns=_COLUMNS)
                self.advance(len(rows))

    async def _insert_denials(self, rules: NumberedRules) -> None:
        async with self._watched(rules):
            insert = statement("rules/insert_denials").fill(denials=denials(rules))
            await execute(self.conn, insert, district_id=self.district_id, today=self.today)

    def _watched(self, rules: NumberedRules) -> AbstractAsyncContextManager[None]:
        """Run a statement with SQL of rules in the block: see `plugin_sql`."""
        seconds, built_in = self.limits.statement_seconds, is_built_in(rules)
        return plugin_sql(self.conn, *fragments_of(rules), seconds=seconds, built_in=built_in)

    def _records(
        self, number: int, owned: OwnedRule, rows: Sequence[Row], verdicts: Sequence[Verdict | Deny | Defer]
    ) -> Iterator[tuple[object, ...]]:
        """Yield a row of `denial` for each candidate that a check denies."""
        on_bits, off_bits = setting_bits(owned.rule)
        for row, verdict in zip(rows, verdicts, strict=True):
            if isinstance(verdict, Deny):
                household, subject_id, contact_point, method, _ = row.values()
                reasons = denied_mask(owned, verdict, self.bits)
                yield (
                    number, household, subject_id, contact_point, method, reasons & on_bits, reasons & off_bits,
                    verdict.code, verdict.because, verdict.remedy,
                )  # fmt: skip


def _candidate(row: Row) -> Candidate:
    household, subject_id, contact_point, method, address = row.values()
    kind, how = _KINDS[contact_point], _METHODS[method]
    if household:
        return Candidate(None, subject_id, kind, how, address)
    return Candidate(subject_id, None, kind, how, address)
