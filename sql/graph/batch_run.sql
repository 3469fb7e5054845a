-- BatchRun: for administrators only. A run waits for the last run before it in its district's queue (D21), to
-- which plans do not belong. A revert counts the cells that it restored and those that somebody has changed since
-- (D29).
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, id, mode, status, dry_run, keep_chosen, requested_by, requested_at, planned_at, finished_at, population, errors, done, total, queued_behind_id, reverts_id, reverted_by_id, restored, left_alone
select b.batch_run_id, 'run_' || b.batch_run_id as id, b.mode, b.status, b.dry_run, b.keep_chosen,
  b.requested_by, b.requested_at, b.planned_at, b.finished_at, b.population, to_json(b.errors) as errors, b.done, b.total,
  (
    select other.batch_run_id
    from batch_run other
    where b.status = 'QUEUED' and not b.plan_only
      and other.district_id = b.district_id and other.batch_run_id <> b.batch_run_id and not other.plan_only
      and is_unfinished(other.status)
      and (other.status <> 'QUEUED' or (other.queued_at, other.batch_run_id) < (b.queued_at, b.batch_run_id))
    order by other.status = 'QUEUED' desc, other.queued_at desc, other.batch_run_id desc
    limit 1
  ) as queued_behind_id,
  b.reverts_run_id as reverts_id,
  (
    select max(revert.batch_run_id) from batch_run revert
    where revert.district_id = b.district_id and revert.reverts_run_id = b.batch_run_id
  ) as reverted_by_id,
  case when b.reverts_run_id is not null then (
    select coalesce(sum(cell.updated), 0)::bigint from batch_cell cell
    where cell.district_id = b.district_id and cell.batch_run_id = b.batch_run_id
  ) end as restored,
  case when b.reverts_run_id is not null then (
    select coalesce(sum(cell.left_alone), 0)::bigint from batch_cell cell
    where cell.district_id = b.district_id and cell.batch_run_id = b.batch_run_id
  ) end as left_alone
from batch_run b
where b.district_id = :district_id and :viewer_role = 'ADMIN'
