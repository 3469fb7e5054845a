"""The mode STUDENT_CONTACTS (D8, D11): the messenger contacts of the students selected."""

from gql_server.hooks import BatchMode, BatchScope, FilterKind, Population, Sql, hookimpl
from gql_server.hooks.people import active, enrolled_students

CODE = "STUDENT_CONTACTS"


@hookimpl
def batch_modes() -> list[BatchMode]:
    return [
        BatchMode(
            CODE,
            "Student contacts",
            "The messenger contacts of the students enrolled today in the schools and school year chosen.",
            FilterKind.STUDENT,
        )
    ]


@hookimpl
def select_population(mode: str, scope: BatchScope) -> Population | None:
    if mode != CODE:
        return None
    people = Sql(
        "select r.contact_id as person_id, r.student_id from relationship r"
        f" where r.district_id = :district_id and r.messenger and {active('r')}"
        " and r.student_id in ({students})"
    )
    contacts = people.fill(students=enrolled_students(scope))
    return Population(contacts, through_students=True, of_district=True)
