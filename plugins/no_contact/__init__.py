"""A batch for student contacts turns nothing on for people who may not be contacted (D10)."""

from gql_server.hooks import Context, Request, Rule, Sql, hookimpl
from gql_server.hooks.people import active

_MESSENGER = (
    "select from relationship r where r.district_id = :district_id and r.contact_id = c.subject_id"
    f" and r.messenger and {active('r')}"
)
_ALL_MARKED = Sql(
    f"not c.household and exists ({_MESSENGER} and r.no_contact)"
    f" and not exists ({_MESSENGER} and not r.no_contact)"
)


@hookimpl
def eligibility_rules(request: Request) -> list[Rule]:
    if request.context is not Context.BATCH or request.mode != "STUDENT_CONTACTS":
        return []
    return [Rule.where("no_contact", "Every messenger relationship is marked no-contact.", _ALL_MARKED)]
