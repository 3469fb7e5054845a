-- Gives a worker's run up, so that another may take it over at once.
-- Parameters: district_id, batch_run_id, lease_owner
update batch_run set lease_owner = null, lease_expires_at = null
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
