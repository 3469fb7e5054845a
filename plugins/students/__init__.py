"""The mode STUDENTS (D7, D11): the students themselves."""

from gql_server.hooks import BatchMode, BatchScope, FilterKind, Population, hookimpl
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
def select_population(mode: str, scope: BatchScope) -> Population | None:
    if mode != CODE:
        return None
    return Population(enrolled_students(scope), of_district=True)
