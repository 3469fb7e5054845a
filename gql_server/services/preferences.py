"""Sets one person's or one household's preferences, by an administrator (D22)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import fetch, fetchval, statement
from gql_server.domain import defaults
from gql_server.domain.batch import ChannelMasks, Setting
from gql_server.domain.changes import Source
from gql_server.domain.channels import Channel
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.preferences import PreferenceCell, cell_masks, validate_cells
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.viewer import Viewer, require_admin
from gql_server.errors import Rejected, UserError, rejected
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
from gql_server.services.districts import reason_bits
from gql_server.services.rules.limits import RuleLimits
from gql_server.services.rules.page import PageCandidate, PageRules
from gql_server.services.rules.redact import log_plugin_failures

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
                with suppress(ConcurrentInsert):
                    return await self._try(viewer, subject, cells, if_revision)
            return await self._try(viewer, subject, cells, if_revision)

    async def _try(
        self, viewer: Viewer, subject: _Subject, cells: Sequence[PreferenceCell], if_revision: int | None
    ) -> int:
        async with self._db.acquire(subject.district_id) as conn:
            bits = await reason_bits(conn, subject.district_id, self._host.reasons)
            subject_id, addresses = await self._read_subject(conn, subject, cells, bits)
        # Plug-ins may take their time: meanwhile no connection is held.
        await self._require_allowed(viewer, cells, bits, _page(subject, addresses, cell_masks(cells, bits)))
        async with self._db.transaction(subject.district_id) as conn:
            change_set = ChangeSet(subject.district_id, Source.ADMIN, viewer.actor)
            written = await _write(conn, change_set, subject, cells, bits)
            await _require_revision(conn, subject, if_revision, written)
        notify_preferences_changed(self._host, viewer.district.code, Source.ADMIN, written)
        return subject_id

    async def _require_allowed(
        self, viewer: Viewer, cells: Sequence[PreferenceCell], bits: ReasonBits, page: Sequence[PageCandidate]
    ) -> None:
        """Raise Rejected with RULE_DENIES for each cell that a rule denies (D3, D19), in the first rule's words."""
        district = viewer.district
        rules = PageRules(self._db, self._host, district.district_id, district.today(), bits, self._limits)
        answers = await rules.ask(_rule_request(viewer, cells), page)
        by_channel = {
            (asked.candidate.contact_point, asked.candidate.method): answer
            for asked, answer in zip(page, answers, strict=True)
        }
        errors = []
        for index, cell in enumerate(cells):
            denial = by_channel[cell.channel].denial_of(bits[cell.reason])
            if denial is not None:
                message = " ".join(filter(None, (denial.because, denial.remedy)))
                errors.append(UserError("RULE_DENIES", message, ("cells", str(index))))
        if errors:
            raise Rejected(errors)

    async def _read_subject(
        self,
        conn: Connection,
        subject: _Subject,
        cells: Sequence[PreferenceCell],
        bits: ReasonBits,
    ) -> tuple[int, dict[str, str | None]]:
        """Return the number of the subject, and the values on record by contact point. Raises Rejected."""
        errors = validate_cells(cells, bits, household=subject.household)
        rows = await fetch(conn, f"preference/{subject.noun}_addresses", **subject.key)
        if subject.number is None or not rows:
            message = f"There is no such {subject.noun}. Use an id that this API gave."
            errors.append(UserError("NOT_FOUND", message, (f"{subject.noun}Id",)))
            raise Rejected(errors)
        if errors:
            raise Rejected(errors)
        return subject.number, {row["contact_point"]: row["address"] for row in rows}


def _page(
    subject: _Subject, addresses: Mapping[str, str | None], masks: Mapping[Channel, ChannelMasks]
) -> list[PageCandidate]:
    """Return the channels that a write names, as candidates."""
    person_id, household_id = (None, subject.number) if subject.household else (subject.number, None)
    return [
        PageCandidate(
            Candidate(person_id, household_id, *channel, addresses.get(channel.contact_point)),
            each.on_mask,
            each.off_mask,
        )
        for channel, each in masks.items()
    ]


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


async def _write(
    conn: Connection,
    change_set: ChangeSet,
    subject: _Subject,
    cells: Sequence[PreferenceCell],
    bits: ReasonBits,
) -> WriteResult:
    masks = cell_masks(cells, bits)
    target = statement("preference/cells").having(
        subject_id=subject.number,
        contact_points=[channel.contact_point for channel in masks],
        methods=[channel.method for channel in masks],
        on_masks=[m.on_mask for m in masks.values()],
        off_masks=[m.off_mask for m in masks.values()],
    )
    return await write_preferences(conn, change_set, target, household=subject.household)


async def _require_revision(
    conn: Connection, subject: _Subject, if_revision: int | None, written: WriteResult
) -> None:
    """Raise Rejected where the subject was changed after `if_revision`.

    Call this after the write, under the district's row lock: every earlier revision is committed and visible.
    """
    if if_revision is None:
        return
    query = statement("preference/changed_since").fill(kind=table_slots(subject.household)["kind"])
    if await fetchval(conn, query, **subject.key, since=if_revision, mine=written.revision):
        message = f"The {subject.noun} was changed after revision {if_revision}. Read it again, then decide."
        raise rejected("STALE_REVISION", message, "ifRevision")
