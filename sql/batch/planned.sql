-- Ends the plan of a run, unless another worker has taken the run over.
-- Parameters: district_id, batch_run_id, lease_owner, today, population, total
-- Columns: batch_run_id
update batch_run set status = 'APPLYING', today = :today, population = :population, total = :total
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner and status = 'PLANNING'
returning batch_run_id
