-- Records the rules that are asked about a run, under its next numbers, in the order given.
-- Parameters: district_id, batch_run_id, plugins, rules, codes, becauses, remedies (arrays of one length)
-- Columns: rule_no
insert into batch_rule (district_id, batch_run_id, rule_no, plugin, rule, code, because, remedy)
select :district_id, :batch_run_id,
  r.position + (
    select coalesce(max(rule_no), 0) from batch_rule
    where district_id = :district_id and batch_run_id = :batch_run_id),
  r.plugin, r.rule, r.code, r.because, r.remedy
from unnest(:plugins::text[], :rules::text[], :codes::text[], :becauses::text[], :remedies::text[]) with ordinality
  as r (plugin, rule, code, because, remedy, position)
returning rule_no
