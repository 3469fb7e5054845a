"""Sets one person's or one household's preferences, by an administrator (D22)."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cache

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import fetch, fetchval, statement
from gql_server.domain import defaults
from gql_server.domain.batch import ChannelMasks, Setting
from gql_server.domain.changes import Source
from gql_server.domain.channels import Channel
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.preferences import PreferenceCell, cell_masks, validate_cells
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import Viewer, require_admin
from gql_server.errors import Rejected, Unavailable, UserError, rejected
from gql_server.hooks import Candidate, Cell, Context, RuleRequest
from gql_server.hooks.host import PluginHost
from gql_server.services.changes import (
    ChangeSet,
    ConcurrentInsert,
    WriteResult,
    notify_preferences_changed,
    table_slots,
    write_preferences,
)
from gql_server.services.districts import KnownReasons
from gql_server.services.rules.limits import RuleLimits
from gql_server.services.rules.page import (
    Answer,
    OnRecord,
    PageCandidate,
    PageRules,
    are_own_sql,
    page_denials,
)
from gql_server.services.rules.redact import log_plugin_failures
from gql_server.services.rules.rule_set import NumberedRules

__all__ = ["PreferenceCell", "PreferenceService"]

_RETRIES = 2


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whose preferences are set, by number. None, as from a malformed id, is nobody."""

    district_id: int
    household: bool
    number: int | None

    @property
    def noun(self) -> str:
        return "household" if self.household else "person"

    @property
    def key(self) -> dict[str, int | None]:
        return {"district_id": self.district_id, "subject_id": self.number}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request sets, whose cells are valid. bits: the district's. masks: the same cells, by channel."""

    subject: _Subject
    cells: Sequence[PreferenceCell]
    bits: ReasonBits
    masks: Mapping[Channel, ChannelMasks]
    request: RuleRequest

    def page(self, addresses: Mapping[str, str | None]) -> list[PageCandidate]:
        """Return the channels as candidates."""
        household, number = self.subject.household, self.subject.number
        person_id, household_id = (None, number) if household else (number, None)
        return [
            PageCandidate(
                Candidate(person_id, household_id, *channel, addresses.get(channel.contact_point)),
                each.on_mask,
                each.off_mask,
            )
            for channel, each in self.masks.items()
        ]

    def select(self, page: Sequence[PageCandidate]) -> Sql:
        """Return a SELECT of some of the channels, with the addresses on record."""
        return self._select(_columns((asked.candidate, asked) for asked in page))

    def target(self, rules: NumberedRules) -> Sql:
        """Return the SELECT of what is written: nothing where one of these rules denies anything."""
        columns = _columns(self.masks.items())
        cells = _cells(self.subject.household).having(subject_id=self.subject.number, **columns)
        if not rules:
            return cells
        denials = page_denials(self._select(columns), rules)
        return statement("preference/allowed_cells").fill(cells=cells, page_denials=denials)

    def errors(self, page: Sequence[PageCandidate], answers: Sequence[Answer]) -> list[UserError]:
        """Return RULE_DENIES for each cell that the answers deny."""
        by_channel = {
            (asked.candidate.contact_point, asked.candidate.method): answer
            for asked, answer in zip(page, answers, strict=True)
        }
        errors = []
        for index, cell in enumerate(self.cells):
            denial = by_channel[cell.channel].denial_of(self.bits[cell.reason])
            if denial is not None:
                message = " ".join(filter(None, (denial.because, denial.remedy)))
                errors.append(UserError("RULE_DENIES", message, ("cells", str(index))))
        return errors

    def _select(self, columns: Mapping[str, list[object]]) -> Sql:
        household, number = self.subject.household, self.subject.number
        addresses = statement(f"preference/{self.subject.noun}_addresses").having(subject_id=number)
        page = statement("preference/page").fill(addresses=addresses)
        return page.having(household=household, subject_id=number, **columns)


class _Overtaken(Unavailable):
    """Nothing was written, for a reason that did not stand any more when it was asked for."""


class PreferenceService:
    """Writes single people's and households' preferences.

    `check_seconds`: how long a rule in Python may take. `statement_seconds`: the pool's limit for one statement.
    """

    def __init__(
        self,
        db: Database,
        host: PluginHost,
        check_seconds: float = defaults.CHECK_SECONDS,
        statement_seconds: float = defaults.STATEMENT_SECONDS,
    ) -> None:
        self._db = db
        self._host = host
        self._limits = RuleLimits(check_seconds, statement_seconds)
        self._reasons = KnownReasons(host.reasons)

    async def set_person(
        self, viewer: Viewer, person_id: str, cells: Sequence[PreferenceCell], if_revision: int | None = None
    ) -> int:
        """Set a person's own channels, TEXT too (D22), and return the person's number.

        Raises Forbidden to all but administrators, PluginError, and Rejected: NOT_FOUND, NO_CELLS, TOO_MANY_CELLS,
        UNKNOWN_REASON, REASON_NOT_SET_UP, INVALID_CHANNEL, CONFLICTING_CELLS, RULE_DENIES (D3, D19), and
        STALE_REVISION where the person was changed after `if_revision`.
        """
        number = parse_id(IdKind.PERSON, person_id)
        return await self._set(viewer, household=False, number=number, cells=cells, if_revision=if_revision)

    async def set_household(
        self,
        viewer: Viewer,
        household_id: str,
        cells: Sequence[PreferenceCell],
        if_revision: int | None = None,
    ) -> int:
        """Set a household's phone, for all of its active members (D5), and return the household's number.

        Raises as `set_person` does.
        """
        number = parse_id(IdKind.HOUSEHOLD, household_id)
        return await self._set(viewer, household=True, number=number, cells=cells, if_revision=if_revision)

    async def _set(
        self,
        viewer: Viewer,
        *,
        household: bool,
        number: int | None,
        cells: Sequence[PreferenceCell],
        if_revision: int | None,
    ) -> int:
        require_admin(viewer, "set these preferences")
        subject = _Subject(viewer.district.district_id, household, number)
        async with log_plugin_failures(self._db, viewer.district):
            for _ in range(_RETRIES):
                with suppress(ConcurrentInsert, _Overtaken):
                    return await self._try(viewer, subject, cells, if_revision)
            return await self._try(viewer, subject, cells, if_revision)

    async def _try(
        self, viewer: Viewer, subject: _Subject, cells: Sequence[PreferenceCell], if_revision: int | None
    ) -> int:
        reasons = {cell.reason for cell in cells}
        bits = await self._reasons.bits(self._db, subject.district_id, reasons)
        errors = validate_cells(cells, bits, household=subject.household)
        if errors or subject.number is None:
            await self._require_subject(subject, errors)
            raise Rejected(errors)
        asked = _Asked(subject, cells, bits, cell_masks(cells, bits), _rule_request(viewer, cells))
        rules = PageRules(
            self._db, self._host, subject.district_id, viewer.district.today(), bits, self._limits
        )
        numbered = await rules.rules(asked.request)
        target = asked.target(numbered) if are_own_sql(numbered) else None
        if target is None:
            # Plug-ins may take their time: meanwhile no connection is held.
            await self._require_allowed(rules, numbered, asked)
            target = asked.target({})
        change_set = ChangeSet(subject.district_id, Source.ADMIN, viewer.actor)
        written = await self._write(change_set, subject, target, rules.today, if_revision)
        if not written.counts:
            await self._require_subject(subject)
            await self._require_allowed(rules, numbered, asked)
            raise _Overtaken("What is on record has changed just now, and nothing was written. Try again.")
        notify_preferences_changed(self._host, viewer.district.code, Source.ADMIN, written)
        return subject.number

    async def _require_allowed(self, rules: PageRules, numbered: NumberedRules, asked: "_Asked") -> None:
        """Raise Rejected with RULE_DENIES for each cell that a rule denies (D3, D19), in the first rule's words.

        Where there is no such subject, that is raised instead: NOT_FOUND.
        """

        async def read() -> list[PageCandidate]:
            return asked.page(await self._require_subject(asked.subject))

        page = asked.page({})
        answers = await rules.ask_rules(numbered, asked.request, page, OnRecord(asked.select, read))
        if errors := asked.errors(page, answers):
            await self._require_subject(asked.subject)
            raise Rejected(errors)

    async def _require_subject(
        self, subject: _Subject, errors: Sequence[UserError] = ()
    ) -> dict[str, str | None]:
        """Return the values on record by contact point. Raises Rejected with NOT_FOUND, and with the given errors."""
        async with self._db.acquire(subject.district_id) as conn:
            rows = await fetch(conn, f"preference/{subject.noun}_addresses", **subject.key)
        if not rows:
            raise Rejected([*errors, _not_found(subject)])
        return {row["contact_point"]: row["address"] for row in rows}

    async def _write(
        self, change_set: ChangeSet, subject: _Subject, target: Sql, today: date, if_revision: int | None
    ) -> WriteResult:
        """Write, and return what was written: no counts where the target had no row. Raises STALE_REVISION."""
        # Without ifRevision, the locks are held for one statement, not for the round trips of a longer transaction.
        connection = self._db.autocommit if if_revision is None else self._db.transaction
        async with connection(subject.district_id) as conn:
            written = await write_preferences(
                conn, change_set, target, household=subject.household, today=today
            )
            if written.counts and if_revision is not None:
                await _require_revision(conn, subject, if_revision, written)
        return written


def _not_found(subject: _Subject) -> UserError:
    message = f"There is no such {subject.noun}. Use an id that this API gave."
    return UserError("NOT_FOUND", message, (f"{subject.noun}Id",))


@cache
def _cells(household: bool) -> Sql:
    return statement("preference/cells").fill(**table_slots(household))


def _columns(
    channels: Iterable[tuple[Channel | Candidate, ChannelMasks | PageCandidate]],
) -> dict[str, list[object]]:
    """Return the arrays that preference/cells and preference/page take."""
    named = list(channels)
    return {
        "contact_points": [channel.contact_point for channel, _ in named],
        "methods": [channel.method for channel, _ in named],
        "on_masks": [masks.on_mask for _, masks in named],
        "off_masks": [masks.off_mask for _, masks in named],
    }


def _rule_request(viewer: Viewer, cells: Sequence[PreferenceCell]) -> RuleRequest:
    settings = {
        Cell(cell.contact_point, cell.method, cell.reason, Setting.ON if cell.on else Setting.OFF): None
        for cell in cells
    }
    return RuleRequest(
        context=Context.WRITE,
        district=viewer.district.code,
        time_zone=viewer.district.time_zone,
        role=viewer.role,
        mode=None,
        cells=tuple(settings),
    )


async def _require_revision(
    conn: Connection, subject: _Subject, if_revision: int, written: WriteResult
) -> None:
    """Raise Rejected where the subject was changed after `if_revision`.

    Call this after the write. If that wrote anything, it holds the lock of the district's row, so that every earlier
    revision is committed and visible.
    """
    query = statement("preference/changed_since").fill(kind=table_slots(subject.household)["kind"])
    if await fetchval(conn, query, **subject.key, since=if_revision, mine=written.revision):
        message = f"The {subject.noun} was changed after revision {if_revision}. Read it again, then decide."
        raise rejected("STALE_REVISION", message, "ifRevision")
