-- Removes the plan of a run that has ended: the log holds what it did.
-- Parameters: district_id, batch_run_id
delete from batch_target where district_id = :district_id and batch_run_id = :batch_run_id
