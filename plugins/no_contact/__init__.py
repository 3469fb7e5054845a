"""A batch turns nothing on for those whom it selects only through relationships that are marked no-contact (D31)."""

from gql_server.hooks import Context, Rule, RuleRequest, Sql, hookimpl
from gql_server.hooks.people import active

# The people left out. Few people have a mark, so theirs are the only relationships that are looked at.
_PEOPLE = f"""
select s.person_id
from selected s
join relationship r on r.contact_id = s.person_id and r.student_id = s.student_id
where r.district_id = :district_id and r.messenger and {active("r")}
  and s.person_id in (
    select marked.contact_id from relationship marked
    where marked.district_id = :district_id and marked.messenger and marked.no_contact and {active("marked")})
group by s.person_id
having bool_and(r.no_contact)"""

# Their households in which every selected person is left out.
_HOUSEHOLDS = f"""
select m.household_id
from household_member m
where m.district_id = :district_id and {active("m")}
  and m.household_id in (
    select own.household_id from household_member own
    join left_out using (person_id)
    where own.district_id = :district_id and {active("own")})
group by m.household_id
having bool_and(
  m.person_id in (select person_id from left_out) or m.person_id not in (select person_id from selected))"""

# A mode that does not say through whom it selects is decided by the first condition alone, at once.
_DENY = Sql(f"""
with left_out as materialized ({_PEOPLE})
select c.household, c.subject_id, c.contact_point, c.method, -1::bigint as reasons
from candidate c
where exists (select from selected where student_id is not null)
  and (not c.household and c.subject_id in (select person_id from left_out)
    or c.household and c.subject_id in ({_HOUSEHOLDS}))""")


@hookimpl
def eligibility_rules(request: RuleRequest) -> list[Rule]:
    if request.context is not Context.BATCH:
        return []
    return [
        Rule(
            "no_contact",
            "Selected only through relationships that are marked no-contact.",
            remedy="Reach another contact of the student instead.",
            deny_select=_DENY,
        )
    ]
