"""The mode CENSUS_STAFF (D9, D11): the people of a census filter who have an active district assignment."""

from gql_server.hooks import BatchMode, BatchScope, FilterKind, Population, Sql, hookimpl
from gql_server.hooks.people import active

CODE = "CENSUS_STAFF"


@hookimpl
def batch_modes() -> list[BatchMode]:
    return [
        BatchMode(
            CODE,
            "Census and staff",
            "The people of a census filter who have an active district assignment, in the schools chosen.",
            FilterKind.CENSUS,
            filter_required=True,
            grades_allowed=False,
            school_year_allowed=False,
        )
    ]


@hookimpl
def select_population(mode: str, scope: BatchScope) -> Population | None:
    if mode != CODE or scope.filter is None:
        return None
    narrowed, args = "", {}
    if scope.school_ids is not None:
        narrowed, args = (
            " and a.school_id = any(:school_ids::bigint[])",
            {"school_ids": list(scope.school_ids)},
        )
    people = Sql(
        "select p.person_id from person p where p.district_id = :district_id and ({filter})"
        " and p.person_id in (select a.person_id from district_assignment a"
        f" where a.district_id = :district_id and {active('a')}{narrowed})",
        args,
    )
    return Population(people.fill(filter=scope.filter), of_district=True)
