-- Renews the lease of a worker that plans a run, unless another has taken the run over, and notes how far the plan is. The
-- plan itself may have ended meanwhile: then only the lease is renewed. Watchers hear of it: see notify.
-- Parameters: district_id, batch_run_id, lease_owner, lease_seconds, step, done, total, channel
-- Columns: batch_run_id
update batch_run
set lease_expires_at = now() + make_interval(secs => :lease_seconds),
  planning_step = case when status = 'PLANNING' then :step::planning_step end,
  planning_done = case when status = 'PLANNING' then :done::bigint end,
  planning_total = case when status = 'PLANNING' then :total::bigint end
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
  and is_worked(status)
returning batch_run_id, pg_notify(:channel, district_id || ' ' || batch_run_id) -- at once: nothing else is to lock the run
