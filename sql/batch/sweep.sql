-- Removes what is left of the plans of runs that have ended: the log holds what they did.
-- Parameters: none
delete from batch_target t
using batch_run r
where r.district_id = t.district_id and r.batch_run_id = t.batch_run_id
  and not needs_plan(r.status)
