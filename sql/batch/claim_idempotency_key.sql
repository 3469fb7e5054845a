-- Lets an idempotency key stand for a run; no row where it stands for another since. Of two at once the second waits.
-- Parameters: district_id, key, request_hash, batch_run_id, valid_seconds
-- Columns: batch_run_id
insert into idempotency_key as held (district_id, key, request_hash, batch_run_id)
values (:district_id, :key, :request_hash, :batch_run_id)
on conflict (district_id, key) do update
set request_hash = excluded.request_hash, batch_run_id = excluded.batch_run_id, created_at = now()
where held.created_at < now() - make_interval(secs => :valid_seconds)
returning batch_run_id
