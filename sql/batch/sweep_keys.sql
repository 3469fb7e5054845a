-- Removes idempotency keys that answer no more.
-- Parameters: valid_seconds
delete from idempotency_key where created_at < now() - make_interval(secs => :valid_seconds)
