-- Ends a run that is done.
-- Parameters: district_id, batch_run_id, lease_owner
-- Columns: population
update batch_run set status = 'DONE', finished_at = now(), lease_owner = null, lease_expires_at = null
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
  and status = 'APPLYING' and done = total
returning population
