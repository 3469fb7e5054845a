-- Puts a plan into the queue, to be applied when its turn comes. The row is locked.
-- Parameters: district_id, batch_run_id
update batch_run set status = 'QUEUED', plan_only = false, queued_at = now()
where district_id = :district_id and batch_run_id = :batch_run_id
