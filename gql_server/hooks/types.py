"""The frozen values that hooks are given and return. A plug-in author reads this file and `spec.py`, no other.

Values that the server makes (`RuleRequest`, `BatchScope`, `RunSummary`, `PreferenceChanges`) take keywords only: more
fields may be added to them. Each of them names the district by its code, since a server serves many districts.

SQL in these values is text with named parameters (`gql_server.domain.sql`). The parameters `district_id` (integer)
and `today` (date: the day in the district's time zone by which the server judges what is active, D6) are always
there. Every table begins with `district_id`, and every statement must compare it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Protocol

from gql_server.domain.batch import FilterKind, Setting
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import Role

# ── reasons, modes and the people they select ───────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ContactReason:
    """A kind of message (D3).

    code: upper case, and for ever: the product gives it a bit in each district. label, description: words for people.
    """

    code: str
    label: str
    description: str


@dataclass(frozen=True, slots=True)
class BatchMode:
    """A way to select the people of a batch (D11).

    code: upper case. label, description: words for people. filter_kind: the kind of saved filter that a scope may
    name. filter_required: a scope must name one. grades_allowed, school_year_allowed: a scope may name them (D12).
    """

    code: str
    label: str
    description: str
    filter_kind: FilterKind
    filter_required: bool = False
    grades_allowed: bool = True
    school_year_allowed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchScope:
    """Whom a batch is for, as the caller narrowed its mode; the scope has been validated (D12).

    district: the district's code. role: of the viewer who asks; for a run, of whoever submitted it.
    school_ids, grades: None where the caller named none, which narrows nothing. Grades are as the caller wrote them:
    `7` and `07` are one grade (D32). school_year: None where the caller named none; then the mode takes the newest
    year with an enrollment active today. filter: a condition on a row `p` of `person`, made from the saved filter.
    """

    district: str
    role: Role
    school_ids: tuple[int, ...] | None = None
    school_year: int | None = None
    grades: tuple[str, ...] | None = None
    filter: Sql | None = None


@dataclass(frozen=True, slots=True)
class Population:
    """The people whom a mode selects.

    sql: a SELECT of the column `person_id`. A person may be in several of its rows and counts once.
    through_students: the SELECT also has the column `student_id`: the student through whom the person was selected,
    a row for each. Rules find both columns in the relation `selected` (D31).
    of_district: the SELECT takes `person_id` from rows with `district_id = :district_id` of a table in which a foreign
    key makes that the person's district, as it is in every table of people. It saves looking each of them up, and is
    believed of the built-in plug-ins alone: what another mode selects is compared with the district all the same (D38).
    """

    sql: Sql
    through_students: bool = False
    of_district: bool = False


# ── rules ───────────────────────────────────────────────────────────────────────────────────────


class Context(StrEnum):
    """What a rule is asked about: a batch's plan, a write to single people's preferences, or a message's recipients."""

    BATCH = "BATCH"
    WRITE = "WRITE"
    DELIVERY = "DELIVERY"


@dataclass(frozen=True, slots=True)
class Cell:
    """A contact point and a reason that a request would set (D13), with the method it is set for (D14, D22).

    set: ON or OFF, never NO_CHANGE. For a delivery it is ON.
    """

    contact_point: ContactPointKind
    method: Method
    reason: str
    set: Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRequest:
    """What the rules are asked about.

    district: the district's code. time_zone: the district's, such as "America/Chicago". role: of the viewer who asks;
    for a run, of whoever submitted it. mode: the batch's mode; None outside of a batch. cells: all that the
    request sets, for persons and for households, each once: a batch sets phones by VOICE and emails by EMAIL (D14).
    """

    context: Context
    district: str
    time_zone: str
    role: Role
    mode: str | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A channel of one person or one household that the request would set, or that a message would go out on (D2).

    Either person_id or household_id is None. address: the value on record, None where there is none.
    """

    person_id: int | None
    household_id: int | None
    contact_point: ContactPointKind
    method: Method
    address: str | None


class Verdict(Enum):
    """What a check says of a candidate that it neither denies nor defers."""

    ALLOW = "ALLOW"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """A check denies one candidate (D10).

    code, because, remedy: as in `Rule`; None for the rule's own. reasons: codes of the contact reasons that are
    denied; None for all, and never empty.
    """

    code: str | None = None
    because: str | None = None
    reasons: frozenset[str] | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Defer:
    """A check lets a message go out to one candidate, but not before a time (D10). In DELIVERY alone.

    until: a time with a time zone. because: a sentence for people; None for the rule's own. Of several deferrals the
    latest counts, and a denial outweighs them all.
    """

    until: datetime
    because: str | None = None


class DistrictReader(Protocol):
    """Reads one district's data for a check."""

    async def fetch(self, sql: str, **args: object) -> Sequence[Mapping[str, object]]:
        """Return the rows of a SELECT with named parameters; `:district_id` and `:today` are given.

        Raises RuntimeError once the check has answered or has run out of time: each call of a check gets a reader
        of its own.
        """
        ...


Check = Callable[[Sequence[Candidate], DistrictReader], Awaitable[Sequence[Verdict | Deny | Defer]]]
"""A rule in Python: one verdict for each candidate, in their order. Awaited in a thread other than the server's."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Denies candidates (D10). A denial by any rule counts; the first rule that denies is named.

    name: stable, lower case, unique in the plug-in. because: one sentence that tells people why.
    Exactly one of
      deny_select: a SELECT of the denials, over the relation `candidate`, with the columns `household`, `subject_id`,
        `contact_point`, `method` and `reasons` (bigint mask; -1 or null for all reasons). To deny what is no
        candidate is an error. `Rule.where` writes this SELECT for a condition.
      deny_channel_when: a condition on the columns of one row `c` of `candidate`, and on nothing else. A channel for
        which it holds is denied altogether, for ON and OFF, before other rules are asked. It costs a batch next to
        nothing.
      check: a coroutine function; see `Check`.
    code: for programs, stable: upper-case letters, digits and underscores; the name in upper case if it is empty.
    remedy: one sentence that tells people what would help, if anything does.
    settings: the settings that the rule is about. By default ON alone, since turning off harms nobody; with
      `deny_channel_when` it must be both.
    predicate, reasons: what `Rule.where` was given. Do not set them otherwise.

    The relation `candidate` holds all channels of the request, of persons and of households together. Its columns:
    `household` (boolean), `subject_id` (of the household or the person), `contact_point`, `method`, `address` (null:
    none on record), `on_mask` and `off_mask` (the reasons to turn on and off, a bit for each `contact_reason.bit`).
    The relation `selected` has the columns `person_id` and `student_id`: whom the batch's mode selected, and through
    which student, null where the mode names none. Outside of a batch it is empty.
    """

    name: str
    because: str
    _: KW_ONLY
    code: str = ""
    remedy: str | None = None
    deny_select: Sql | None = None
    deny_channel_when: Sql | None = None
    check: Check | None = None
    settings: frozenset[Setting] = frozenset({Setting.ON})
    predicate: Sql | None = None
    reasons: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if not self.code:
            object.__setattr__(self, "code", str(self.name).upper())

    @classmethod
    def where(
        cls,
        name: str,
        because: str,
        predicate: Sql,
        *,
        code: str = "",
        remedy: str | None = None,
        reasons: Sequence[str] | None = None,
        settings: frozenset[Setting] = frozenset({Setting.ON}),
    ) -> "Rule":
        """Return the rule that denies the rows `c` of `candidate` for which a condition in SQL holds.

        reasons: the codes of those it denies; None for all. A code that no plug-in gives is an error when the rules
        are asked for. The other parameters are as in `Rule`.
        """
        if not _is_sql(predicate):
            select = predicate  # refused, in words, when the rule is validated
        elif reasons is None:
            select = _denials(predicate, "-1::bigint")
        else:
            select = _denials(predicate.renamed("condition"), _MASK).having(rule_reasons=list(reasons))
        return cls(
            name,
            because,
            code=code,
            remedy=remedy,
            deny_select=select,
            settings=settings,
            predicate=predicate,
            reasons=None if reasons is None else frozenset(reasons),
        )


_MASK = (
    "(select coalesce(bit_or(1::bigint << r.bit), 0) from contact_reason r"
    " where r.district_id = :district_id and r.code = any(:rule_reasons::text[]))"
)


def _is_sql(given: object) -> bool:
    return isinstance(given, Sql) and isinstance(given.text, str) and isinstance(given.args, Mapping)


def _denials(predicate: Sql, mask: str) -> Sql:
    """Return the SELECT that denies the rows `c` of `candidate` for which a condition holds."""
    text = (
        f"select c.household, c.subject_id, c.contact_point, c.method, {mask} as reasons"
        f" from candidate c where ({predicate.text})"
    )
    return Sql(text, predicate.args)


# ── saved filters ───────────────────────────────────────────────────────────────────────────────


class FieldType(StrEnum):
    """The type of a filter field's values; a BOOLEAN field takes true or false."""

    TEXT = "TEXT"
    INTEGER = "INTEGER"
    BOOLEAN = "BOOLEAN"
    ID = "ID"


@dataclass(frozen=True, slots=True)
class FilterField:
    """A field of saved filters.

    name: as in JSON, letters and digits, a lower-case letter first. label: words for people.
    predicate: a condition in SQL on a row `p` of `person`. It uses `:value`, an array of text (TEXT), integer
    (INTEGER) or bigint (ID). For BOOLEAN it takes no value, and the server negates it for false.
    kinds: the kinds of saved filters that have the field. id_prefix: the kind of global ids that an ID field takes,
    such as "school"; an id that is malformed or unknown matches nobody. values: the only values that a TEXT field
    takes, where they are few.
    """

    name: str
    label: str
    type: FieldType
    predicate: str
    kinds: frozenset[FilterKind] = frozenset(FilterKind)
    id_prefix: str | None = None
    values: tuple[str, ...] | None = None


# ── what listeners receive ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A batch run that ended, as `run_finished` receives it (D20).

    run_id: the global id. district: the district's code. status: DONE, FAILED, CANCELLED or REVERTED. population:
    how many people the mode selected.
    """

    run_id: str
    district: str
    mode: str
    status: str
    population: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceChanges:
    """A committed change set of preferences, as `preferences_changed` receives it (D28).

    district: the district's code. revision: the district's, without gaps. source: what kind of write it was, such as
    BATCH or ADMIN. preferences: how many cells changed.
    """

    district: str
    revision: int
    source: str
    preferences: int
