"""The mode STUDENTS (D7, D11): the students themselves."""

from gql_server.hooks import BatchMode, FilterKind, Population, Scope, Sql, hookimpl
from gql_server.hooks.people import enrolled_students

CODE = "STUDENTS"


@hookimpl
def batch_modes() -> list[BatchMode]:
    return [
        BatchMode(
            CODE,
            "Students",
            "The students enrolled today in the schools and school year chosen.",
            FilterKind.STUDENT,
        )
    ]


@hookimpl
def select_population(mode: str, scope: Scope) -> Population | None:
    if mode != CODE:
        return None
    people = Sql(
        "select s.person_id from person s where s.district_id = :district_id and s.person_id in ({students})"
    )
    return Population(people.fill(students=enrolled_students(scope)))
