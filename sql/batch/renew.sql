-- Renews a worker's lease, unless the run was cancelled or another has taken it over.
-- Parameters: district_id, batch_run_id, lease_owner, lease_seconds
-- Columns: batch_run_id
update batch_run set lease_expires_at = now() + make_interval(secs => :lease_seconds)
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
  and status = 'APPLYING'
returning batch_run_id
