-- Ends a run that has written nothing. The row is locked.
-- Parameters: district_id, batch_run_id
-- Columns: mode, population
update batch_run
set status = 'CANCELLED', finished_at = now(), lease_owner = null, lease_expires_at = null,
  planning_step = null, planning_done = null, planning_total = null
where district_id = :district_id and batch_run_id = :batch_run_id
returning mode, population
