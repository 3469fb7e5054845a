"""A batch turns nothing on for those whom it selects only through relationships that are marked no-contact (D31)."""

from gql_server.hooks import Context, Rule, RuleRequest, Sql, hookimpl
from gql_server.hooks.people import active

# The people and students with an active relationship that is marked. Few relationships are, so the search begins here.
_MARKED = f"""
select distinct r.contact_id as person_id, r.student_id
from relationship r
where r.district_id = :district_id and r.no_contact and {active("r")}"""

# Those of them whose mark stands: each relationship by which the person is a messenger contact, if any, is marked too.
_KEPT_APART = f"""
select m.person_id, m.student_id
from marked m
where coalesce((
  select bool_and(r.no_contact)
  from relationship r
  where r.district_id = :district_id and r.contact_id = m.person_id and r.student_id = m.student_id
    and r.messenger and {active("r")}), true)"""

# The people excluded: those whom every row of `selected` selects through a student of such a pair.
_PEOPLE = """
select s.person_id
from selected s
where s.person_id in (select person_id from kept_apart)
group by s.person_id
having bool_and(coalesce((s.person_id, s.student_id) in (select person_id, student_id from kept_apart), false))"""

# Their households in which every selected person is excluded.
_HOUSEHOLDS = f"""
select m.household_id
from household_member m
where m.district_id = :district_id and {active("m")}
  and m.household_id in (
    select own.household_id from household_member own
    join excluded using (person_id)
    where own.district_id = :district_id and {active("own")})
group by m.household_id
having bool_and(
  m.person_id in (select person_id from excluded) or m.person_id not in (select person_id from selected))"""

# A mode that does not say through whom it selects is decided by the first condition alone, at once.
_DENY = Sql(f"""
with marked as materialized ({_MARKED}), kept_apart as materialized ({_KEPT_APART}),
excluded as materialized ({_PEOPLE})
select c.household, c.subject_id, c.contact_point, c.method, -1::bigint as reasons
from candidate c
where exists (select from selected where student_id is not null)
  and (not c.household and c.subject_id in (select person_id from excluded)
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
