-- Finds a rule that denied what is no candidate.
-- Parameters: district_id, batch_run_id
-- Columns: plugin, rule
select r.plugin, r.rule
from denial d
join batch_rule r on r.district_id = :district_id and r.batch_run_id = :batch_run_id and r.rule_no = d.rule_no
where not exists (
  select from candidate c
  where c.household = d.household and c.subject_id = d.subject_id and c.contact_point = d.contact_point
    and c.method = d.method)
order by d.rule_no limit 1
