-- Records a rule that is asked about a run, under the run's next number.
-- Parameters: district_id, batch_run_id, plugin, rule, because
-- Columns: rule_no
insert into batch_rule (district_id, batch_run_id, rule_no, plugin, rule, because, code)
select :district_id, :batch_run_id, coalesce(max(rule_no), 0) + 1, :plugin, :rule, :because, upper(:rule)
from batch_rule where district_id = :district_id and batch_run_id = :batch_run_id
returning rule_no
