"""Checks a mode and a scope, keeps them, and turns them into what the mode's plug-in takes (D11, D12, D33)."""

import json
from dataclasses import dataclass

from gql_server.db.protocols import Connection
from gql_server.db.statements import fetch, fetchrow, statement
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import District, Role
from gql_server.errors import Rejected, UserError, rejected
from gql_server.hooks import BatchMode, BatchScope
from gql_server.hooks.host import PluginHost
from gql_server.hooks.people import grade_key
from gql_server.services.batch.request import ScopeInput
from gql_server.services.filters import compile_criteria, storable

_LISTED_GRADES = 40


@dataclass(frozen=True, slots=True)
class KeptScope:
    """A scope that was checked: what a run selects its people by, whatever becomes of the filter that it names (D33).

    Ids are internal. None: not given; an empty tuple: nobody fits. `criteria`: those that the filter had, as JSON.
    """

    school_ids: tuple[int, ...] | None = None
    school_year: int | None = None
    grades: tuple[str, ...] | None = None
    filter_id: int | None = None
    criteria: object | None = None

    def dump(self) -> str:
        """Return the scope as JSON, as `batch_run.scope` keeps it."""
        return json.dumps(
            {
                "schoolIds": self.school_ids,
                "schoolYear": self.school_year,
                "grades": self.grades,
                "filterId": self.filter_id,
                "criteria": self.criteria,
            }
        )

    @classmethod
    def load(cls, text: str) -> "KeptScope":
        """Return the scope that `dump` wrote."""
        kept = json.loads(text)
        school_ids, grades = kept.get("schoolIds"), kept.get("grades")
        return cls(
            None if school_ids is None else tuple(school_ids),
            kept.get("schoolYear"),
            None if grades is None else tuple(grades),
            kept.get("filterId"),
            kept.get("criteria"),
        )


async def resolve_scope(
    conn: Connection, district: District, host: PluginHost, mode: str, scope: ScopeInput
) -> BatchScope:
    """Check a scope and return it as the mode's plug-in takes it. Raises as `check_scope` does."""
    return mode_scope(district, await check_scope(conn, district, host, mode, scope), mode, host)


async def check_scope(
    conn: Connection, district: District, host: PluginHost, mode: str, scope: ScopeInput
) -> KeptScope:
    """Return the scope to keep. Runs no statement without schools, grades or filter.

    `school_year` stays None where it is not given: the mode's SQL finds the current one (D12).
    Raises Rejected with all problems at once: UNKNOWN_MODE, UNKNOWN_SCHOOL, UNKNOWN_GRADE, UNKNOWN_FILTER,
    WRONG_FILTER_KIND, INVALID_CRITERIA, FILTER_REQUIRED, GRADES_NOT_ALLOWED, SCHOOL_YEAR_NOT_ALLOWED; or, before
    any statement, those of `ScopeInput.excesses`. Malformed, foreign and unknown ids are the same error.
    """
    if excesses := scope.excesses():
        raise Rejected(excesses)
    errors: list[UserError] = []
    school_ids = await _schools(conn, district, scope, errors)
    try:
        known = _mode(host, mode)
    except Rejected as rejection:
        raise Rejected([*errors, *rejection.errors]) from None
    errors += _not_allowed(known, scope)
    if known.grades_allowed and scope.grades:
        errors += await _unknown_grades(conn, district, scope.grades)
    kept = None
    try:
        filter_id, criteria = await _filter(conn, district, known, scope.filter_id)
        kept = KeptScope(school_ids, scope.school_year, scope.grades, filter_id, criteria)
        mode_scope(district, kept, mode, host)
    except Rejected as rejection:
        errors.extend(rejection.errors)
    if kept is None or errors:
        raise Rejected(errors)
    return kept


def mode_scope(district: District, kept: KeptScope, mode: str, host: PluginHost) -> BatchScope:
    """Return a scope as the mode's plug-in takes it, with the filter as SQL. Looks nothing up.

    Raises Rejected where a plug-in is gone since it was kept: UNKNOWN_MODE, INVALID_CRITERIA.
    """
    kind = _mode(host, mode).filter_kind
    if kept.filter_id is not None and kept.criteria is None:
        # Recorded by a release that kept no criteria: everyone is not who was meant.
        raise rejected("UNKNOWN_FILTER", "This run did not keep its filter's criteria. Ask for it again.")
    predicate = None if kept.criteria is None else compile_criteria(kept.criteria, kind, host)
    return BatchScope(
        district=district.code,
        role=Role.ADMIN,  # only an administrator asks for a batch
        school_ids=kept.school_ids,
        school_year=kept.school_year,
        grades=kept.grades,
        filter=predicate,
    )


def nobody_selected() -> Rejected:
    """Return the error for a mode and scope that select nobody (D32)."""
    words = (
        "The mode and the scope select nobody. Widen the scope: its schools, school year, grades or filter."
    )
    return rejected("NOBODY_SELECTED", words, "scope")


def _mode(host: PluginHost, mode: str) -> BatchMode:
    owned = host.modes.get(mode)
    if owned is None:
        words = f"There is no mode {mode[:40]!r}. Use one of {', '.join(host.modes)}."
        raise rejected("UNKNOWN_MODE", words, "mode")
    return owned.mode


def _not_allowed(mode: BatchMode, scope: ScopeInput) -> list[UserError]:
    """Return an error for each narrowing that the mode does not take."""
    errors = []
    if scope.grades is not None and not mode.grades_allowed:
        words = f"The mode {mode.code} takes no grades. Leave them out."
        errors.append(UserError("GRADES_NOT_ALLOWED", words, ("scope", "grades")))
    if scope.school_year is not None and not mode.school_year_allowed:
        words = f"The mode {mode.code} takes no school year. Leave it out."
        errors.append(UserError("SCHOOL_YEAR_NOT_ALLOWED", words, ("scope", "schoolYear")))
    return errors


async def _schools(
    conn: Connection, district: District, scope: ScopeInput, errors: list[UserError]
) -> tuple[int, ...] | None:
    if scope.school_ids is None:
        return None
    numbers = [parse_id(IdKind.SCHOOL, text) for text in scope.school_ids]
    rows = await fetch(
        conn, "batch/request/known_schools", district_id=district.district_id, school_ids=numbers
    )
    known = {row["school_id"] for row in rows}
    for index, number in enumerate(numbers):
        if number not in known:
            words = f"There is no school {scope.school_ids[index][:40]!r}. Use ids that `schools` lists."
            errors.append(UserError("UNKNOWN_SCHOOL", words, ("scope", "schoolIds", str(index))))
    return tuple(number for number in numbers if number is not None)


async def _unknown_grades(conn: Connection, district: District, grades: tuple[str, ...]) -> list[UserError]:
    """Return an error for each grade that no enrollment of the district has, with those that it has (D32)."""
    # A text that PostgreSQL cannot hold is no grade of anybody's.
    places = [place for place, grade in enumerate(grades) if storable(grade)]
    rows = await fetch(
        conn,
        statement("batch/request/unknown_grades").fill(key=Sql(grade_key("g.grade"))),
        district_id=district.district_id,
        grades=[grades[place] for place in places],
    )
    there = [row["grade"] for row in rows if row["position"] is None]
    unknown = {places[row["position"]] for row in rows if row["position"] is not None}
    unknown |= {*range(len(grades))} - {*places}
    more = " and more" if len(there) > _LISTED_GRADES else ""
    has = f"It has {', '.join(there[:_LISTED_GRADES])}{more}." if there else "It has no enrollments."
    return [
        UserError(
            "UNKNOWN_GRADE",
            f"The district has no grade {grades[place][:40]!r}. {has}",
            ("scope", "grades", str(place)),
        )
        for place in sorted(unknown)
    ]


async def _filter(
    conn: Connection, district: District, mode: BatchMode, filter_id: str | None
) -> tuple[int | None, object | None]:
    """Return the number and the criteria of a saved filter, or None and None where none is named. Raises Rejected."""
    path = ("scope", "filterId")
    if filter_id is None:
        if mode.filter_required:
            words = f"The mode {mode.code} needs a saved {mode.filter_kind} filter. Name one."
            raise rejected("FILTER_REQUIRED", words, *path)
        return None, None
    number = parse_id(IdKind.SAVED_FILTER, filter_id)
    row = await fetchrow(conn, "filter/find", district_id=district.district_id, saved_filter_id=number)
    if row is None:
        words = f"There is no filter {filter_id[:40]!r}. Use an id that `savedFilters` lists."
        raise rejected("UNKNOWN_FILTER", words, *path)
    if row["kind"] != mode.filter_kind:
        words = f"The mode {mode.code} takes a {mode.filter_kind} filter, and this is a {row['kind']} filter."
        raise rejected("WRONG_FILTER_KIND", words, *path)
    return number, json.loads(row["criteria"])
