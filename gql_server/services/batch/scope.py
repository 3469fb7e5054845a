"""Validates the mode and scope of a batch, records them, and passes them to the mode's plug-in (D11, D12, D33)."""

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

_MAX_LISTED_GRADES = 40


@dataclass(frozen=True, slots=True)
class RecordedScope:
    """A validated scope. A run selects its people by it, even if the saved filter is edited or deleted later (D33).

    Ids are internal. None: not given; an empty tuple: selects nobody. `criteria`: the criteria of the filter as JSON,
    as they were when the batch was submitted.
    """

    school_ids: tuple[int, ...] | None = None
    school_year: int | None = None
    grades: tuple[str, ...] | None = None
    filter_id: int | None = None
    criteria: object | None = None

    def dump(self) -> str:
        """Return the scope as JSON, for `batch_run.scope`."""
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
    def load(cls, text: str) -> "RecordedScope":
        """Return the scope that `dump` wrote."""
        recorded = json.loads(text)
        school_ids, grades = recorded.get("schoolIds"), recorded.get("grades")
        return cls(
            None if school_ids is None else tuple(school_ids),
            recorded.get("schoolYear"),
            None if grades is None else tuple(grades),
            recorded.get("filterId"),
            recorded.get("criteria"),
        )


async def validate_scope(
    conn: Connection, district: District, host: PluginHost, mode: str, scope: ScopeInput
) -> RecordedScope:
    """Return the scope to record. Without schools, grades and filter no statement is executed.

    `school_year` stays None if it is not given: the mode's SQL finds the current one (D12).
    Raises Rejected with all errors at once: UNKNOWN_MODE, UNKNOWN_SCHOOL, UNKNOWN_GRADE, UNKNOWN_FILTER,
    WRONG_FILTER_KIND, INVALID_CRITERIA, FILTER_REQUIRED, GRADES_NOT_ALLOWED, SCHOOL_YEAR_NOT_ALLOWED; or, before
    any statement, the errors of `ScopeInput.validate_sizes`. A malformed id, an unknown id and an id of another
    district give the same error.
    """
    if size_errors := scope.validate_sizes():
        raise Rejected(size_errors)
    errors: list[UserError] = []
    school_ids = await _schools(conn, district, scope, errors)
    try:
        known = _mode(host, mode)
    except Rejected as rejection:
        raise Rejected([*errors, *rejection.errors]) from None
    errors += _not_allowed(known, scope)
    if known.grades_allowed and scope.grades:
        errors += await _unknown_grades(conn, district, scope.grades)
    recorded = None
    try:
        filter_id, criteria = await _filter(conn, district, known, scope.filter_id)
        recorded = RecordedScope(school_ids, scope.school_year, scope.grades, filter_id, criteria)
        plugin_scope(district, recorded, mode, host)
    except Rejected as rejection:
        errors.extend(rejection.errors)
    if recorded is None or errors:
        raise Rejected(errors)
    return recorded


def plugin_scope(district: District, scope: RecordedScope, mode: str, host: PluginHost) -> BatchScope:
    """Return a scope in the form for the mode's plug-in, with the filter as SQL. No statement is executed.

    Raises Rejected if a plug-in was removed since the scope was recorded: UNKNOWN_MODE, INVALID_CRITERIA.
    """
    kind = _mode(host, mode).filter_kind
    if scope.filter_id is not None and scope.criteria is None:
        # An older release did not record the criteria. Without them the run would select everybody.
        message = "The criteria of this run's filter were not recorded. Submit the batch again."
        raise rejected("UNKNOWN_FILTER", message)
    predicate = None if scope.criteria is None else compile_criteria(scope.criteria, kind, host)
    return BatchScope(
        district=district.code,
        role=Role.ADMIN,  # only an administrator may submit a batch
        school_ids=scope.school_ids,
        school_year=scope.school_year,
        grades=scope.grades,
        filter=predicate,
    )


def nobody_selected() -> Rejected:
    """Return the error for a mode and scope that select nobody (D32)."""
    message = (
        "The mode and the scope select nobody. Widen the scope: its schools, school year, grades or filter."
    )
    return rejected("NOBODY_SELECTED", message, "scope")


def _mode(host: PluginHost, mode: str) -> BatchMode:
    owned = host.modes.get(mode)
    if owned is None:
        message = f"There is no mode {mode[:40]!r}. Use one of {', '.join(host.modes)}."
        raise rejected("UNKNOWN_MODE", message, "mode")
    return owned.mode


def _not_allowed(mode: BatchMode, scope: ScopeInput) -> list[UserError]:
    """Return an error for each part of the scope that the mode does not support."""
    errors = []
    if scope.grades is not None and not mode.grades_allowed:
        message = f"The mode {mode.code} takes no grades. Leave them out."
        errors.append(UserError("GRADES_NOT_ALLOWED", message, ("scope", "grades")))
    if scope.school_year is not None and not mode.school_year_allowed:
        message = f"The mode {mode.code} takes no school year. Leave it out."
        errors.append(UserError("SCHOOL_YEAR_NOT_ALLOWED", message, ("scope", "schoolYear")))
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
            message = f"There is no school {scope.school_ids[index][:40]!r}. Use ids that `schools` lists."
            errors.append(UserError("UNKNOWN_SCHOOL", message, ("scope", "schoolIds", str(index))))
    return tuple(number for number in numbers if number is not None)


async def _unknown_grades(conn: Connection, district: District, grades: tuple[str, ...]) -> list[UserError]:
    """Return an error for each grade that no enrollment of the district has, with those that it has (D32)."""
    # PostgreSQL cannot store some texts. They must not be sent, and are unknown in any case.
    storable_indexes = [index for index, grade in enumerate(grades) if storable(grade)]
    rows = await fetch(
        conn,
        statement("batch/request/unknown_grades").fill(key=Sql(grade_key("g.grade"))),
        district_id=district.district_id,
        grades=[grades[index] for index in storable_indexes],
    )
    known = [row["grade"] for row in rows if row["position"] is None]
    unknown = {storable_indexes[row["position"]] for row in rows if row["position"] is not None}
    unknown |= {*range(len(grades))} - {*storable_indexes}
    more = " and more" if len(known) > _MAX_LISTED_GRADES else ""
    known_grades = (
        f"It has {', '.join(known[:_MAX_LISTED_GRADES])}{more}." if known else "It has no enrollments."
    )
    return [
        UserError(
            "UNKNOWN_GRADE",
            f"The district has no grade {grades[index][:40]!r}. {known_grades}",
            ("scope", "grades", str(index)),
        )
        for index in sorted(unknown)
    ]


async def _filter(
    conn: Connection, district: District, mode: BatchMode, filter_id: str | None
) -> tuple[int | None, object | None]:
    """Return the number and the criteria of a saved filter, or None and None if none is given. Raises Rejected."""
    path = ("scope", "filterId")
    if filter_id is None:
        if mode.filter_required:
            message = f"The mode {mode.code} needs a saved {mode.filter_kind} filter. Name one."
            raise rejected("FILTER_REQUIRED", message, *path)
        return None, None
    number = parse_id(IdKind.SAVED_FILTER, filter_id)
    row = await fetchrow(conn, "filter/find", district_id=district.district_id, saved_filter_id=number)
    if row is None:
        message = f"There is no filter {filter_id[:40]!r}. Use an id that `savedFilters` lists."
        raise rejected("UNKNOWN_FILTER", message, *path)
    if row["kind"] != mode.filter_kind:
        message = (
            f"The mode {mode.code} takes a {mode.filter_kind} filter, and this is a {row['kind']} filter."
        )
        raise rejected("WRONG_FILTER_KIND", message, *path)
    return number, json.loads(row["criteria"])
