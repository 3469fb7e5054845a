-- The run that an idempotency key stands for, and the input that it came with.
-- Parameters: district_id, key, valid_seconds
-- Columns: request_hash, batch_run_id
select request_hash, batch_run_id from idempotency_key
where district_id = :district_id and key = :key and created_at >= now() - make_interval(secs => :valid_seconds)
