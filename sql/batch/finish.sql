-- Ends a run that is done; a run that it reverts is then REVERTED.
-- Parameters: district_id, batch_run_id, lease_owner
-- Columns: population, reverted, whole (whether all was done that was to do)
with ended as (
  update batch_run
  set status = 'DONE', finished_at = now(), lease_owner = null, lease_expires_at = null
  where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
    and status = 'APPLYING'
  returning population, reverts_run_id, done = total as whole
),
reverted as (
  update batch_run original
  set status = 'REVERTED', finished_at = coalesce(original.finished_at, now())
  from ended
  where original.district_id = :district_id and original.batch_run_id = ended.reverts_run_id
    and original.status = 'REVERTING'
  returning original.batch_run_id
)
select ended.population, (select batch_run_id from reverted) as reverted, ended.whole from ended
