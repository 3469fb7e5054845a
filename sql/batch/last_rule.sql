-- The number of the last rule that was asked about a run; 0 where none was.
-- Parameters: district_id, batch_run_id
-- Columns: rule_no
select coalesce(max(rule_no), 0) as rule_no from batch_rule
where district_id = :district_id and batch_run_id = :batch_run_id
