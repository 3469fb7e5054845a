"""SQL that plug-ins which select people share: what is active, and which students a scope means."""

from gql_server.domain.sql import Sql
from gql_server.hooks.types import Scope


def active(row: str) -> str:
    """Return the condition that a row with a start_date and an end_date is active on the day (D6)."""
    return (
        f"({row}.start_date is null or {row}.start_date <= :today)"
        f" and ({row}.end_date is null or {row}.end_date >= :today)"
    )


CURRENT_YEAR = (
    "(select max(any_school.school_year) from enrollment any_school"
    f" where any_school.district_id = :district_id and {active('any_school')})"
)
"""The newest school year in which somebody in the district is enrolled today (D12)."""


def enrolled_students(scope: Scope) -> Sql:
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
        conditions.append("e.grade = any(:grades::text[])")
        args["grades"] = list(scope.grades)
    select = f"select e.person_id from enrollment e where {' and '.join(conditions)}"
    if scope.filter is None:
        return Sql(select, args)
    select += (
        " and exists (select from person p"
        " where p.district_id = :district_id and p.person_id = e.person_id and ({filter}))"
    )
    return Sql(select, args).fill(filter=scope.filter)
