"""Asks rules about a page of candidates that stands in memory: one request's cells, or the recipients of a message."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date, datetime

from gql_server.db.plugin_errors import attribute_errors
from gql_server.db.protocols import Database, Row
from gql_server.db.session_guard import restored_session
from gql_server.db.statements import fetch, statement
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.sql import Sql
from gql_server.hooks import Candidate, Defer, Deny, RuleRequest, Verdict
from gql_server.hooks.host import OwnedRule, PluginHost
from gql_server.services.rules.check_thread import CheckThread, DistrictData
from gql_server.services.rules.checks import ask_check, denied_mask, unknown_denial
from gql_server.services.rules.limits import CHECK_CHUNK, RuleLimits
from gql_server.services.rules.plugin_sql import ask_together, fragments_of, is_built_in
from gql_server.services.rules.rule_set import (
    NumberedRules,
    RuleSet,
    applicable_rules,
    denials,
    denied_by,
    setting_bits,
)

_Key = tuple[bool, int, str, str]


@dataclass(frozen=True, slots=True)
class PageCandidate:
    """A candidate, and the bits of the reasons that the request turns on and off for it.

    A page has each channel of a person or household once. For a delivery `on_mask` has the reason of the message.
    """

    candidate: Candidate
    on_mask: int
    off_mask: int

    @property
    def key(self) -> _Key:
        """The channel, as rules in SQL name it."""
        candidate = self.candidate
        household = candidate.household_id is not None
        number = candidate.household_id if household else candidate.person_id
        assert number is not None
        return household, number, candidate.contact_point, candidate.method


@dataclass(frozen=True, slots=True)
class Denial:
    """What a rule denies one candidate, and what it says about that (D10). reasons: bits that the request names."""

    rule: OwnedRule
    reasons: int
    code: str
    because: str
    remedy: str | None


@dataclass(frozen=True, slots=True)
class Deferral:
    """A rule lets a message go out to one candidate, but not before `until`."""

    rule: OwnedRule
    until: datetime
    because: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the rules say of one candidate.

    denials: in the host's order; each reason stands in one of them, that of the first rule that denies it. deferral:
    the latest, which holds for the reasons that are not denied; None where nobody defers, or every reason is denied.
    """

    denials: tuple[Denial, ...]
    deferral: Deferral | None

    def denial_of(self, bit: int) -> Denial | None:
        """Return who denies the reason of a bit, from 0."""
        return next((denial for denial in self.denials if denial.reasons >> bit & 1), None)


def given_page(page: Sequence[PageCandidate]) -> Sql:
    """Return a SELECT of a page as it is, with the addresses of its candidates: the {page} of rules/page_denials."""
    households, subject_ids, contact_points, methods = zip(*(asked.key for asked in page), strict=True)
    return statement("rules/page").having(
        households=households,
        subject_ids=subject_ids,
        contact_points=contact_points,
        methods=methods,
        addresses=[asked.candidate.address for asked in page],
        on_masks=[asked.on_mask for asked in page],
        off_masks=[asked.off_mask for asked in page],
    )


def page_denials(page: Sql, numbered: NumberedRules) -> Sql:
    """Return a SELECT of what rules in SQL deny of a page: rules/page_denials."""
    rules = RuleSet.of(numbered)
    return statement("rules/page_denials").fill(
        page=page, denied_by=denied_by(rules.conditions), denials=denials(rules.selects)
    )


def are_own_sql(numbered: NumberedRules) -> bool:
    """Return whether all rules are the product's own, and in SQL: a statement that writes may then ask them itself."""
    return is_built_in(numbered) and all(owned.rule.check is None for owned in numbered.values())


@dataclass(frozen=True, slots=True)
class OnRecord:
    """Where the addresses of a page are that its candidates lack: rules in SQL are asked without reading them first.

    select: returns a SELECT of some of the page, with its addresses. read: returns the page with its addresses.
    """

    select: Callable[[Sequence[PageCandidate]], Sql]
    read: Callable[[], Awaitable[Sequence[PageCandidate]]]


@dataclass(frozen=True, slots=True)
class PageRules:
    """Asks the rules of a host about pages of candidates in one district, on one day.

    bits: the district's. Persons' and households' channels, of one subject or of many, may stand in one page.
    """

    db: Database
    host: PluginHost
    district_id: int
    today: date
    bits: ReasonBits
    limits: RuleLimits

    async def ask(
        self, request: RuleRequest, page: Sequence[PageCandidate], on_record: OnRecord | None = None
    ) -> list[Answer]:
        """Return what the rules say, an answer for each candidate, in the page's order.

        All rules in SQL are asked in one statement if possible, and last: checks may take long, and what was recorded
        meanwhile counts (D19). on_record: where the addresses are if the page is without; they are read before a check
        is asked. Checks are not asked about what a condition denies. No connection is held while hooks
        are called or checks run. Raises PluginError, also where a rule denies what is no candidate, and Busy.
        """
        return await self.ask_rules(await self.rules(request), request, page, on_record) if page else []

    async def rules(self, request: RuleRequest) -> NumberedRules:
        """Return the rules about a setting that the request names. Raises PluginError, and Busy."""
        given = await self.host.calls.rules(request)
        return dict(enumerate(applicable_rules(given, request), start=1))

    async def ask_rules(
        self,
        numbered: NumberedRules,
        request: RuleRequest,
        page: Sequence[PageCandidate],
        on_record: OnRecord | None = None,
    ) -> list[Answer]:
        """Return what some rules say about a page that is not empty, as `ask` does for all of a request's."""
        rules = RuleSet.of(numbered)
        select = given_page if on_record is None else on_record.select
        if rules.checks and on_record is not None:
            page, select = await on_record.read(), given_page
        collected = _Collected(page, numbered, select)
        if rules.checks:
            await self._ask_sql(rules.conditions, collected)
        left = collected.left()
        for number, owned in rules.checks.items():
            for start in range(0, len(left), CHECK_CHUNK):
                chunk = left[start : start + CHECK_CHUNK]
                collected.add_verdicts(number, chunk, await self._check(request, owned, chunk), self.bits)
        await self._ask_sql({**rules.conditions, **rules.selects}, collected)
        return collected.answers()

    async def _ask_sql(self, rules: NumberedRules, collected: "_Collected") -> None:
        """Ask rules in SQL about what no condition has denied so far, and collect what they deny."""

        async def ask(some: NumberedRules) -> None:
            if left := collected.left():
                collected.add_rows(await self._select(collected.select(left), some))

        if rules:
            await ask_together(rules, ask)

    async def _select(self, page: Sql, numbered: NumberedRules) -> Sequence[Row]:
        """Ask rules in one statement.

        If one of them is not the product's own, its transaction can only read, and is rolled back with whatever their
        SQL did to its session.
        """
        query = page_denials(page, numbered)
        async with self.db.acquire(self.district_id) as conn:
            with attribute_errors(*fragments_of(numbered), seconds=self.limits.statement_seconds):
                async with nullcontext() if is_built_in(numbered) else restored_session(conn):
                    return await fetch(conn, query, district_id=self.district_id, today=self.today)

    async def _check(
        self, request: RuleRequest, owned: OwnedRule, chunk: Sequence[PageCandidate]
    ) -> Sequence[Verdict | Deny | Defer]:
        candidates = [replace(asked.candidate) for asked in chunk]  # copies, which a check cannot spoil
        data, seconds = DistrictData(self.db, self.district_id, self.today), self.limits.check_seconds

        async def ask() -> Sequence[Verdict | Deny | Defer]:
            with CheckThread(owned.plugin, data) as thread:
                return await ask_check(owned, candidates, thread, seconds, request.context)

        return await self.host.calls.run_limited(f"checks of {owned.plugin}", seconds, ask)


class _Collected:
    """What rules have said of a page so far. select: returns the SELECT of some of it, for rules in SQL."""

    def __init__(
        self,
        page: Sequence[PageCandidate],
        rules: NumberedRules,
        select: Callable[[Sequence[PageCandidate]], Sql],
    ) -> None:
        self.select = select
        self._whole: set[_Key] = set()
        """The channels that a condition denies."""
        self._rules = rules
        self._page = page
        self._denials: dict[_Key, dict[int, Denial]] = {asked.key: {} for asked in page}
        self._deferrals: dict[_Key, Deferral] = {}

    def left(self) -> list[PageCandidate]:
        """Return the candidates that no condition has denied."""
        return [asked for asked in self._page if asked.key not in self._whole]

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Add what rules in SQL deny. Raises PluginError where that is no candidate."""
        for row in sorted(rows, key=lambda row: row["rule_no"]):
            owned = self._rules[row["rule_no"]]
            if row["reasons"] is None:
                raise unknown_denial(owned.plugin, owned.rule.name)
            key = (row["household"], row["subject_id"], row["contact_point"], row["method"])
            if row["whole"]:
                self._whole.add(key)
            self._deny(row["rule_no"], key, row["reasons"], Deny())

    def add_verdicts(
        self,
        number: int,
        chunk: Sequence[PageCandidate],
        verdicts: Sequence[Verdict | Deny | Defer],
        bits: ReasonBits,
    ) -> None:
        """Add what a rule in Python says of a chunk. Raises PluginError for a reason that nobody knows."""
        owned = self._rules[number]
        on_bits, off_bits = setting_bits(owned.rule)
        for asked, verdict in zip(chunk, verdicts, strict=True):
            if isinstance(verdict, Deny):
                applicable = (asked.on_mask & on_bits) | (asked.off_mask & off_bits)
                self._deny(number, asked.key, applicable & denied_mask(owned, verdict, bits), verdict)
            elif isinstance(verdict, Defer):
                earlier = self._deferrals.get(asked.key)
                if earlier is None or earlier.until < verdict.until:
                    because = verdict.because or owned.rule.because
                    self._deferrals[asked.key] = Deferral(owned, verdict.until, because)

    def _deny(self, number: int, key: _Key, reasons: int, deny: Deny) -> None:
        owned, rule = self._rules[number], self._rules[number].rule
        texts = (deny.code or rule.code, deny.because or rule.because, deny.remedy or rule.remedy)
        self._denials[key][number] = Denial(owned, reasons, *texts)

    def answers(self) -> list[Answer]:
        """Return an answer for each candidate, each reason denied by the first rule that denies it."""
        return [self._answer(asked) for asked in self._page]

    def _answer(self, asked: PageCandidate) -> Answer:
        left, counted = asked.on_mask | asked.off_mask, []
        for _, denial in sorted(self._denials[asked.key].items()):
            if first := denial.reasons & left:
                counted.append(replace(denial, reasons=first))
                left &= ~first
        return Answer(tuple(counted), self._deferrals.get(asked.key) if left else None)
