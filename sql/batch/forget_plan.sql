-- Removes the plan of a run, if it has ended: the log holds what it did.
-- Parameters: district_id, batch_run_id
delete from batch_target t
using batch_run r
where t.district_id = :district_id and t.batch_run_id = :batch_run_id
  and r.district_id = :district_id and r.batch_run_id = :batch_run_id
  and not needs_plan(r.status)
