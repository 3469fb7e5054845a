-- A rule that denied what is no candidate.
-- Columns: rule_no
select d.rule_no from denied d
where not exists (
  select from candidate c
  where c.household = d.household and c.subject_id = d.subject_id and c.contact_point = d.contact_point)
order by d.rule_no limit 1
