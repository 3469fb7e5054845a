-- BatchRun: for administrators.
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, id, mode, status, dry_run, keep_chosen, requested_by, requested_at, finished_at, population, errors, done, total
select b.batch_run_id, 'run_' || b.batch_run_id as id, b.mode, b.status, b.dry_run, b.keep_chosen,
  b.requested_by, b.requested_at, b.finished_at, b.population, to_json(b.errors) as errors, b.done, b.total
from batch_run b
where b.district_id = :district_id and :viewer_role = 'ADMIN'
