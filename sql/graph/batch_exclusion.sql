-- BatchExclusion: a row for each cell of a person or household that a rule excluded from a run, with the rule and what it
-- says. What a single denial says comes before what its rule says.
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, block, place, bit, contact_point, person_id, household_id, reason, rule, code,
-- because, remedy
select x.batch_run_id, x.block, x.place, r.bit, x.contact_point,
  case when not x.household then x.subject_id end as person_id,
  case when x.household then x.subject_id end as household_id,
  r.code as reason, b.plugin || '.' || b.rule as rule, coalesce(x.code, b.code) as code,
  coalesce(x.because, b.because) as because, coalesce(x.remedy, b.remedy) as remedy
from batch_exclusion x
join batch_rule b
  on b.district_id = x.district_id and b.batch_run_id = x.batch_run_id and b.rule_no = x.rule_no
join contact_reason r on r.district_id = x.district_id and x.reasons & (1::bigint << r.bit) <> 0
where x.district_id = :district_id and :viewer_role = 'ADMIN'
