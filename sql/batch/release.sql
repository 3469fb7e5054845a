-- Gives a worker's run up, in order, so that another may take it over at once: this claim does not count.
-- Parameters: district_id, batch_run_id, lease_owner
update batch_run set lease_owner = null, lease_expires_at = null, claims = greatest(claims - 1, 0)
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
