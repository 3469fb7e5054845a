"""The frozen values that hooks return and are given. A plug-in author reads this file and `spec.py`, no other.

SQL in these values is text with named parameters (`gql_server.domain.sql`). The parameters `district_id` (integer)
and `today` (date: the day, in the district, by which a run judges what is active, D6) are always there. Every
table begins with `district_id`: every statement must compare it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol

from gql_server.domain.batch import Cell, FilterKind, Setting
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.sql import Sql


class Context(StrEnum):
    """Where a rule is asked: planning a batch, one person's own change, a delivery."""

    BATCH = "BATCH"
    WRITE = "WRITE"
    DELIVERY = "DELIVERY"


@dataclass(frozen=True, slots=True)
class ContactReason:
    """A kind of message (D3). `code` is upper case and stays for ever; its bit is allocated by the product."""

    code: str
    label: str
    description: str


@dataclass(frozen=True, slots=True)
class BatchMode:
    """A way to select people (D11). `grades`, `school_year`: whether a scope may name them (D12)."""

    code: str
    label: str
    description: str
    filter_kind: FilterKind
    filter_required: bool = False
    grades: bool = True
    school_year: bool = True


@dataclass(frozen=True, slots=True)
class Scope:
    """What the caller narrowed the mode to, after validation (D12). None: not given, no narrowing.

    Without `school_year` the mode finds the current one itself: the newest with an enrollment active today. `filter`
    is a predicate over a row `p` of `person`, made from the saved filter.
    """

    school_ids: tuple[int, ...] | None = None
    school_year: int | None = None
    grades: tuple[str, ...] | None = None
    filter: Sql | None = None


@dataclass(frozen=True, slots=True)
class Population:
    """The people a mode selects: a SELECT of `person_id`. A person who is there twice counts once."""

    sql: Sql


@dataclass(frozen=True, slots=True)
class Request:
    """What rules are asked about. `mode` is None outside a batch."""

    context: Context
    mode: str | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A person or household, and a channel of theirs that the request would set. `address` is the value on record."""

    person_id: int | None
    household_id: int | None
    contact_point: ContactPointKind
    method: Method
    address: str | None


class Verdict(Enum):
    ALLOW = "ALLOW"


@dataclass(frozen=True, slots=True)
class Deny:
    """A check's no to one candidate. `reasons`: the codes it is for, None for all. `because`: else the rule's words."""

    reasons: frozenset[str] | None = None
    because: str | None = None


class Reader(Protocol):
    """A read-only view of the district's data, for rules that need I/O."""

    async def fetch(self, sql: str, **args: object) -> Sequence[Mapping[str, object]]:
        """Return the rows of a SELECT with named parameters; `district_id` and `today` are given.

        Raises RuntimeError once the check has answered, or was given up: a reader is for one chunk.
        """
        ...


Check = Callable[[Sequence[Candidate], Reader], Awaitable[Sequence[Verdict | Deny]]]
"""Answers a chunk of candidates, one verdict each, in their order. Awaited in a thread other than the server's."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Keeps candidates out of cells. Deny wins over every other rule.

    name: stable, lower case, unique in the plug-in. because: words for people, a whole sentence.
    Exactly one of
      bars: a condition on the columns of `candidate` (below), as the row `c`, and on nothing else. What it holds for
        is out of the batch as a whole, for all its cells, and other rules need not be asked. It costs next to nothing.
      denies: a SELECT over the relation `candidate` whose rows are the denials, with the columns `household`,
        `subject_id`, `contact_point` and `reasons` (bigint mask, -1 for all). `candidate` has the columns
        `household` (boolean), `subject_id` (a household's id or a person's), `contact_point`, `method`, `address`
        (null: none on record), `on_mask` and `off_mask`. To deny what is not in it stops the run.
      check: a Python callable; see `Check`.
    settings: which settings the rule speaks of; by default only ON, since turning off harms nobody. With `bars` both.
    reasons, predicate: what `where` was given.
    """

    name: str
    because: str
    denies: Sql | None = None
    check: Check | None = None
    settings: frozenset[Setting] = frozenset({Setting.ON})
    bars: Sql | None = None
    reasons: frozenset[str] | None = None
    predicate: Sql | None = None

    @property
    def denials(self) -> Sql | None:
        """The SELECT of what the rule denies, whichever way it is written; None where it is Python."""
        return self.denies if self.bars is None else _denials(self.bars, "-1::bigint")

    @classmethod
    def where(
        cls,
        name: str,
        because: str,
        predicate: Sql,
        settings: frozenset[Setting] = frozenset({Setting.ON}),
        reasons: Sequence[str] | None = None,
    ) -> "Rule":
        """Return the rule that denies the candidates `c` that fit the predicate, for all reasons or those given.

        A reason that no plug-in gives is an error when the rule is asked for.
        """
        if reasons is None:
            denies = _denials(predicate, "-1::bigint")
        else:
            denies = _denials(predicate, _MASK).having(rule_reasons=list(reasons))
        named = None if reasons is None else frozenset(reasons)
        return cls(name, because, denies=denies, settings=settings, reasons=named, predicate=predicate)


_MASK = (
    "(select coalesce(bit_or(1::bigint << r.bit), 0) from contact_reason r"
    " where r.district_id = :district_id and r.code = any(:rule_reasons::text[]))"
)


def _denials(predicate: Sql, mask: str) -> Sql:
    """Return the SELECT of the candidates `c` that fit a predicate."""
    text = (
        f"select c.household, c.subject_id, c.contact_point, {mask} as reasons"
        f" from candidate c where ({predicate.text})"
    )
    return Sql(text, predicate.args)


class FieldType(StrEnum):
    """The type of a filter field's values; BOOLEAN fields take true or false."""

    TEXT = "TEXT"
    INTEGER = "INTEGER"
    BOOLEAN = "BOOLEAN"
    ID = "ID"


@dataclass(frozen=True, slots=True)
class FilterField:
    """A field of saved filters. `predicate` is SQL over the row `p` of `person` that holds where the field fits.

    It uses `:value`, an array of text, integer or bigint (ids), for TEXT, INTEGER and ID; for BOOLEAN it takes no
    value, and the product negates it for false. `name` is written as in JSON: lower case first, letters and digits.
    `id_prefix` names the kind of global ids that an ID field takes, such as "school"; an id that is malformed or
    unknown fits nobody. `values`: the only values that a TEXT field takes, where there are few.
    """

    name: str
    label: str
    type: FieldType
    predicate: str
    kinds: frozenset[FilterKind] = frozenset(FilterKind)
    id_prefix: str | None = None
    values: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run that ended, as `run_finished` is told of it."""

    run_id: str
    mode: str
    status: str
    population: int


@dataclass(frozen=True, slots=True)
class PreferenceChanges:
    """A committed change set of preferences, as `preferences_changed` is told of it."""

    district_code: str
    revision: int
    source: str
    preferences: int
