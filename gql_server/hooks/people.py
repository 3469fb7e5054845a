"""SQL that plug-ins and the server share: what is active, whom messages reach, equal grades, a scope's students."""

from gql_server.domain.sql import Sql
from gql_server.hooks.types import BatchScope


def active(row: str) -> str:
    """Return the condition that a row with a start_date and an end_date is active on the day (D6)."""
    return f"active_on({row}.start_date, {row}.end_date, :today)"


def reaches(row: str) -> str:
    """Return the condition that messages about the student reach the contact of a relationship (D8, D6)."""
    return f"{row}.messenger and not {row}.no_contact and {active(row)}"


def in_grades(row: str, grades: str) -> str:
    """Return the condition that the grade of a row is one of an array of texts, where `7` and `07` are one (D32)."""
    return (
        f"{grade_key(f'{row}.grade')} = any(array(select {grade_key('given')} from unnest({grades}) given))"
    )


def grade_key(grade: str) -> str:
    """Return the expression that is equal for two grades that are one (D32): without zeros before the rest."""
    return f"coalesce(nullif(ltrim({grade}, '0'), ''), right({grade}, 1))"  # a third of what a pattern costs


CURRENT_YEAR = (
    "(select max(any_school.school_year) from enrollment any_school"
    f" where any_school.district_id = :district_id and {active('any_school')})"
)
"""The newest school year in which somebody in the district is enrolled today (D12)."""


def enrolled_students(scope: BatchScope) -> Sql:
    """Return a SELECT of `person_id`: the students of a scope (D12), a row for each enrollment that fits."""
    args: dict[str, object] = {}
    conditions = ["e.district_id = :district_id", active("e")]
    if scope.school_year is None:
        conditions.append(f"e.school_year = {CURRENT_YEAR}")
    else:
        conditions.append("e.school_year = :school_year::integer")
        args["school_year"] = scope.school_year
    if scope.school_ids is not None:
        conditions.append("e.school_id = any(:school_ids::bigint[])")
        args["school_ids"] = list(scope.school_ids)
    if scope.grades is not None:
        conditions.append(in_grades("e", ":grades::text[]"))
        args["grades"] = list(scope.grades)
    select = f"select e.person_id from enrollment e where {' and '.join(conditions)}"
    if scope.filter is None:
        return Sql(select, args)
    select += (
        " and exists (select from person p"
        " where p.district_id = :district_id and p.person_id = e.person_id and ({filter}))"
    )
    return Sql(select, args).fill(filter=scope.filter)
