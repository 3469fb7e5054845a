"""Nothing turns on a channel whose address has an opt-out on record (D19)."""

from gql_server.hooks import Rule, RuleRequest, Sql, hookimpl

_DENY = Sql(
    "select c.household, c.subject_id, c.contact_point, c.method, coalesce(o.reasons, -1) as reasons"
    " from candidate c"
    " join opt_out o on o.address = c.address and o.method = c.method"
    " where o.district_id = :district_id and o.lifted_at is null"
)


@hookimpl
def eligibility_rules(request: RuleRequest) -> list[Rule]:
    return [
        Rule(
            "opt_out",
            "An opt-out is on record for this address.",
            code="OPTED_OUT",
            remedy="Use another contact point.",
            deny_select=_DENY,
        )
    ]
