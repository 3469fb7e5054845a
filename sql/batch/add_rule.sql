-- Records a rule that was asked about a run.
-- Parameters: district_id, batch_run_id, rule_no, plugin, rule, because
insert into batch_rule (district_id, batch_run_id, rule_no, plugin, rule, because)
values (:district_id, :batch_run_id, :rule_no, :plugin, :rule, :because)
