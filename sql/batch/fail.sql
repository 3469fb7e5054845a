-- Ends a run that could not be done, with the reasons why.
-- Parameters: district_id, batch_run_id, lease_owner, errors
-- Columns: population
update batch_run
set status = 'FAILED', finished_at = now(), errors = :errors::text[], lease_owner = null, lease_expires_at = null,
  planning_step = null, planning_done = null, planning_total = null
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
  and is_worked(status)
returning population
