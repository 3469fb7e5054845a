-- BatchExcludedByRule: how many preferences each rule excluded from a run. When a plan is applied its rules are asked
-- again and numbered again; a rule that has two numbers is one row here.
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, rule, code, because, remedy, excluded
select b.batch_run_id, b.plugin || '.' || b.rule as rule, (array_agg(b.code order by b.rule_no desc))[1] as code,
  (array_agg(b.because order by b.rule_no desc))[1] as because, (array_agg(b.remedy order by b.rule_no desc))[1] as remedy,
  sum(x.excluded)::bigint as excluded
from batch_rule b
join (
  select batch_run_id, rule_no, sum(subjects * bit_count(reasons::bit(64))) as excluded
  from batch_exclusion_block
  where district_id = :district_id and :viewer_role = 'ADMIN'
  group by batch_run_id, rule_no
) x on x.batch_run_id = b.batch_run_id and x.rule_no = b.rule_no
where b.district_id = :district_id and :viewer_role = 'ADMIN'
group by b.batch_run_id, b.plugin, b.rule
