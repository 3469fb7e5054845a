-- Removes what nothing needs any more. Only `remove_plan` is about one run; the rest is done for all districts.

-- name: remove_plan
-- Removes the targets of a run whose plan is not needed any more: the log holds what the run did.
-- Parameters: district_id, batch_run_id
-- Columns: none
delete from batch_target t
using batch_run r
where t.district_id = :district_id and t.batch_run_id = :batch_run_id
  and r.district_id = :district_id and r.batch_run_id = :batch_run_id
  and not needs_plan(r.status)

-- name: remove_plans
-- Removes the targets of all runs whose plans are not needed any more.
-- Parameters: none
-- Columns: none
delete from batch_target t
using batch_run r
where r.district_id = t.district_id and r.batch_run_id = t.batch_run_id
  and not needs_plan(r.status)

-- name: cancel_old_plans
-- Cancels plans that nobody has applied for a long time, so that they do not accumulate.
-- Parameters: kept_seconds, error
-- Columns: district_id, code (the district's), batch_run_id, mode, status, population
update batch_run r
set status = 'CANCELLED', finished_at = now(), errors = array[:error::text]
from district d
where d.district_id = r.district_id
  and r.status = 'PLANNED' and r.planned_at < now() - make_interval(secs => :kept_seconds)
returning r.district_id, d.code, r.batch_run_id, r.mode, r.status, r.population

-- name: remove_old_keys
-- Removes idempotency keys that are not valid any more.
-- Parameters: valid_seconds
-- Columns: none
delete from idempotency_key where created_at < now() - make_interval(secs => :valid_seconds)
