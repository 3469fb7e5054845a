"""Asks the plug-ins' rules about a write to one person or household (D3, D19)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import fetch, statement
from gql_server.domain.batch import Cell, ChannelMasks, Setting
from gql_server.domain.channels import Channel, ContactPointKind, Method
from gql_server.domain.preferences import PreferenceCell, cell_masks
from gql_server.domain.reasons import ReasonBits
from gql_server.errors import UserError
from gql_server.hooks import Candidate, Context, Deny, Request, Sql
from gql_server.hooks.host import OwnedRule, PluginHost
from gql_server.services.batch.check_thread import CheckThread, DistrictData
from gql_server.services.batch.rules import ask_check, blaming, denied_mask, spoken_of


@dataclass(frozen=True, slots=True)
class WriteRules:
    """One write, and what the rules need to know of it. `addresses` holds the values on record.

    `check_seconds`: how long a rule in Python may take.
    """

    db: Database
    conn: Connection
    host: PluginHost
    district_id: int
    today: date
    bits: ReasonBits
    household: bool
    subject_id: int
    addresses: Mapping[str, str | None]
    check_seconds: float

    async def errors(self, cells: Sequence[PreferenceCell]) -> list[UserError]:
        """Return RULE_DENIES for each cell denied, in the words of the first rule. Raises PluginError."""
        said: dict[PreferenceCell, str] = {}
        for method in Method:  # one method at a time: a rule's SELECT speaks of contact points
            await self._ask([cell for cell in cells if cell.method is method], said)
        return [
            UserError("RULE_DENIES", said[cell], ("cells", str(index)))
            for index, cell in enumerate(cells)
            if cell in said
        ]

    async def _ask(self, cells: Sequence[PreferenceCell], said: dict[PreferenceCell, str]) -> None:
        if not cells:
            return
        settings = tuple(
            Cell(cell.contact_point, cell.reason, Setting.ON if cell.on else Setting.OFF) for cell in cells
        )
        masks = cell_masks(cells, self.bits)
        for owned in self.host.rules(Request(Context.WRITE, None, settings)):
            spoken = {m.contact_point: spoken_of(owned.rule, m) for m in masks.values()}
            if not any(spoken.values()):
                continue
            if (denials := owned.rule.denials) is not None:
                denied = await self._select(owned, denials, masks)
            else:
                denied = await self._check(owned, list(masks))
            for cell in cells:
                mask, because = denied.get(cell.contact_point, (0, None))
                if mask & spoken[cell.contact_point] & 1 << self.bits[cell.reason]:
                    said.setdefault(cell, because or owned.rule.because)

    async def _select(
        self, owned: OwnedRule, denies: Sql, masks: Mapping[Channel, ChannelMasks]
    ) -> dict[ContactPointKind, tuple[int, str | None]]:
        with blaming(owned.plugin, f"rule {owned.rule.name!r}"):
            rows = await fetch(
                self.conn,
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

    async def _check(
        self, owned: OwnedRule, channels: Sequence[Channel]
    ) -> dict[ContactPointKind, tuple[int, str | None]]:
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
        with CheckThread(owned.plugin, data) as thread:
            verdicts = await ask_check(owned, candidates, thread, self.check_seconds)
        return {
            candidate.contact_point: (denied_mask(owned, verdict, self.bits), verdict.because)
            for candidate, verdict in zip(candidates, verdicts, strict=True)
            if isinstance(verdict, Deny)
        }
