"""Asks the plug-ins' rules about a write to one person or household (D3, D19)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from gql_server.db.protocols import Connection, Database
from gql_server.db.session_guard import restored_session
from gql_server.db.statements import fetch, statement
from gql_server.domain.batch import ChannelMasks, Setting
from gql_server.domain.channels import Channel, ContactPointKind, Method
from gql_server.domain.preferences import PreferenceCell, cell_masks
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.viewer import Viewer
from gql_server.errors import UserError
from gql_server.hooks import Candidate, Cell, Context, Deny, RuleRequest, Verdict
from gql_server.hooks.host import OwnedRule, PluginHost
from gql_server.services.batch.check_thread import CheckThread, DistrictData
from gql_server.services.batch.plugin_sql import Fragment, blamed
from gql_server.services.batch.rules import ask_check, denied_mask, spoken_of

Denied = Mapping[ContactPointKind, tuple[int, str | None]]
"""What a rule denies: the bits of each contact point, and the rule's words where it has some for this one."""


@dataclass(frozen=True, slots=True)
class AskedRule:
    """A rule that speaks of a write by one method. said: what it denies, where it is Python; else the database says."""

    owned: OwnedRule
    masks: Mapping[Channel, ChannelMasks]
    said: Denied | None

    @property
    def spoken(self) -> dict[ContactPointKind, int]:
        """The bits of each contact point that the rule speaks of."""
        return {m.contact_point: spoken_of(self.owned.rule, m) for m in self.masks.values()}


@dataclass(frozen=True, slots=True)
class WriteRules:
    """One write, and what the rules need to know of it. `addresses` holds the values on record.

    `check_seconds`: how long a rule in Python may take.
    """

    db: Database
    host: PluginHost
    viewer: Viewer
    today: date
    bits: ReasonBits
    household: bool
    subject_id: int
    addresses: Mapping[str, str | None]
    check_seconds: float

    @property
    def district_id(self) -> int:
        return self.viewer.district.district_id

    async def ask(self, cells: Sequence[PreferenceCell]) -> list[AskedRule]:
        """Ask the plug-ins for their rules, and those that are Python for their answers. No connection is held.

        Raises PluginError, and Busy.
        """
        # One method at a time: a rule's SELECT speaks of contact points.
        by_method = [[cell for cell in cells if cell.method is method] for method in Method]
        masks = [cell_masks(each, self.bits) for each in by_method if each]
        requests = [_request(each, self.viewer) for each in by_method if each]
        asked = []
        for each, rules in zip(masks, await self.host.calls.rules(requests), strict=True):
            for owned in rules:
                rule = AskedRule(owned, each, None)
                if any(rule.spoken.values()):
                    python = owned.rule.deny_rows is None
                    asked.append(replace(rule, said=await self._check(owned, list(each))) if python else rule)
        return asked

    async def errors(
        self, conn: Connection, cells: Sequence[PreferenceCell], asked: Sequence[AskedRule]
    ) -> list[UserError]:
        """Return RULE_DENIES for each cell denied, in the words of the first rule. Raises PluginError.

        The connection must be in no transaction: see `undone`.
        """
        said: dict[PreferenceCell, str] = {}
        for rule in asked:
            denied = await self._select(conn, rule) if rule.said is None else rule.said
            for cell in cells:
                mask, because = denied.get(cell.contact_point, (0, None))
                spoken = rule.spoken.get(cell.contact_point, 0) if cell.channel in rule.masks else 0
                if mask & spoken & 1 << self.bits[cell.reason]:
                    said.setdefault(cell, because or rule.owned.rule.because)
        return [
            UserError("RULE_DENIES", said[cell], ("cells", str(index)))
            for index, cell in enumerate(cells)
            if cell in said
        ]

    async def _select(self, conn: Connection, rule: AskedRule) -> Denied:
        denies, masks = rule.owned.rule.deny_rows, rule.masks
        assert denies is not None
        with blamed(Fragment.of(rule.owned)):
            async with restored_session(conn):
                rows = await fetch(
                    conn,
                    statement("preference/denials").fill(denies=denies),
                    district_id=self.district_id,
                    today=self.today,
                    household=self.household,
                    subject_id=self.subject_id,
                    contact_points=[channel.contact_point for channel in masks],
                    methods=[channel.method for channel in masks],
                    addresses=[self.addresses.get(channel.contact_point) for channel in masks],
                    on_masks=[m.on_mask for m in masks.values()],
                    off_masks=[m.off_mask for m in masks.values()],
                )
        return {ContactPointKind(row["contact_point"]): (row["reasons"], None) for row in rows}

    async def _check(self, owned: OwnedRule, channels: Sequence[Channel]) -> Denied:
        candidates = [
            Candidate(
                person_id=None if self.household else self.subject_id,
                household_id=self.subject_id if self.household else None,
                contact_point=channel.contact_point,
                method=channel.method,
                address=self.addresses.get(channel.contact_point),
            )
            for channel in channels
        ]
        data = DistrictData(self.db, self.district_id, self.today)

        async def ask() -> Sequence[Verdict | Deny]:
            with CheckThread(owned.plugin, data) as thread:
                return await ask_check(owned, candidates, thread, self.check_seconds)

        verdicts = await self.host.calls.run_limited(f"checks of {owned.plugin}", self.check_seconds, ask)
        return {
            candidate.contact_point: (denied_mask(owned, verdict, self.bits), verdict.because)
            for candidate, verdict in zip(candidates, verdicts, strict=True)
            if isinstance(verdict, Deny)
        }


def _request(cells: Sequence[PreferenceCell], viewer: Viewer) -> RuleRequest:
    return RuleRequest(
        context=Context.WRITE,
        district=viewer.district.code,
        time_zone=viewer.district.time_zone,
        role=viewer.role,
        mode=None,
        cells=tuple(
            Cell(cell.contact_point, cell.method, cell.reason, Setting.ON if cell.on else Setting.OFF)
            for cell in cells
        ),
    )
