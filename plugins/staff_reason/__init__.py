"""The reason STAFF is only for people with an active district assignment (D3)."""

from gql_server.hooks import Rule, RuleRequest, Setting, Sql, hookimpl
from gql_server.hooks.people import active

_ASSIGNED = (
    f"select a.person_id from district_assignment a where a.district_id = :district_id and {active('a')}"
)
_HOME_OF_ASSIGNED = (
    "select m.household_id from household_member m"
    f" where m.district_id = :district_id and {active('m')} and m.person_id in ({_ASSIGNED})"
)
# `not in` over columns that are never null: each list is hashed once, however many candidates there are.
_WITHOUT = Sql(
    f"not c.household and c.subject_id not in ({_ASSIGNED})"
    f" or c.household and c.subject_id not in ({_HOME_OF_ASSIGNED})"
)


@hookimpl
def eligibility_rules(request: RuleRequest) -> list[Rule]:
    if not any(cell.reason == "STAFF" and cell.set is Setting.ON for cell in request.cells):
        return []
    words = "STAFF messages are only for people with a district assignment."
    return [Rule.where("assignment", words, _WITHOUT, code="NO_ASSIGNMENT", reasons=["STAFF"])]
