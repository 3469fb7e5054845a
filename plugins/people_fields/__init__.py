"""The fields of saved filters: enrollments, contacts, contact points, assignments, a list of people."""

from gql_server.hooks import ContactPointKind, FieldType, FilterField, FilterKind, hookimpl
from gql_server.hooks.people import active, in_grades, reaches

_STUDENT = frozenset({FilterKind.STUDENT})
_CENSUS = frozenset({FilterKind.CENSUS})
_BOTH = _STUDENT | _CENSUS


def _enrolled(condition: str = "true") -> str:
    return (
        "exists (select from enrollment e where e.district_id = :district_id and e.person_id = p.person_id"
        f" and {active('e')} and {condition})"
    )


def _assigned(condition: str) -> str:
    return (
        "exists (select from district_assignment a where a.district_id = :district_id"
        f" and a.person_id = p.person_id and {active('a')} and {condition})"
    )


_MESSENGER = (
    "exists (select from relationship r where r.district_id = :district_id and r.student_id = p.person_id"
    f" and {reaches('r')})"
)

_HAS_CONTACT_POINT = (
    "exists (select from contact_point c where c.district_id = :district_id and c.person_id = p.person_id"
    " and c.kind::text = any(:value::text[]))"
    " or 'HOUSEHOLD_PHONE' = any(:value::text[]) and exists ("
    "select from household_member m join household h using (district_id, household_id)"
    " where m.district_id = :district_id and m.person_id = p.person_id and h.phone is not null"
    f" and {active('m')})"
)


@hookimpl
def filter_fields() -> list[FilterField]:
    text, integer, boolean, ids = FieldType.TEXT, FieldType.INTEGER, FieldType.BOOLEAN, FieldType.ID
    grade = _enrolled(in_grades("e", ":value::text[]"))
    school = _enrolled("e.school_id = any(:value::bigint[])")
    year = _enrolled("e.school_year = any(:value::integer[])")
    title = _assigned("a.title = any(:value::text[])")
    office = _assigned("a.school_id = any(:value::bigint[])")
    listed = "p.person_id = any(:value::bigint[])"
    kinds = tuple(ContactPointKind)
    return [
        FilterField("grade", "Grade", text, grade, _STUDENT),
        FilterField("school", "School", ids, school, _STUDENT, id_prefix="school"),
        FilterField("schoolYear", "School year", integer, year, _STUDENT),
        FilterField("activeEnrollment", "Enrolled today", boolean, _enrolled(), _BOTH),
        FilterField("hasMessengerContact", "Has a messenger contact", boolean, _MESSENGER, _STUDENT),
        FilterField("hasContactPoint", "Has on record", text, _HAS_CONTACT_POINT, _BOTH, values=kinds),
        FilterField("assignmentTitle", "Title of an assignment", text, title, _CENSUS),
        FilterField("assignmentSchool", "School of an assignment", ids, office, _CENSUS, id_prefix="school"),
        FilterField("person", "Person", ids, listed, _BOTH, id_prefix="person"),
    ]
