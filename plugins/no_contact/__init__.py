"""A batch for student contacts turns nothing on for people who may not be contacted (D10)."""

from gql_server.hooks import Context, Rule, RuleRequest, Sql, hookimpl
from gql_server.hooks.people import active, reaches

_MARKED = (
    "select r.contact_id from relationship r"
    f" where r.district_id = :district_id and r.messenger and r.no_contact and {active('r')}"
)
_NOT_MARKED = (
    "select from relationship other where other.district_id = :district_id and other.contact_id = r.contact_id"
    f" and {reaches('other')}"
)
# Marks are few: to begin with them leaves most people alone.
_ALL_MARKED = Sql(f"not c.household and c.subject_id in ({_MARKED} and not exists ({_NOT_MARKED}))")


@hookimpl
def eligibility_rules(request: RuleRequest) -> list[Rule]:
    if request.context is not Context.BATCH or request.mode != "STUDENT_CONTACTS":
        return []
    return [Rule.where("no_contact", "Every messenger relationship is marked no-contact.", _ALL_MARKED)]
