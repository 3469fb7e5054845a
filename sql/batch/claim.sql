-- Gives a worker a run, of any district, that nobody works: one whose turn it is (D21), the longest in the queue first,
-- or a plan, which waits for no turn; or one whose lease has expired or is the worker's own. A plan begins anew. `claims`
-- counts how often it was claimed since it last got further, this time too.
-- Parameters: lease_owner, lease_seconds
-- Columns: district_id, code, time_zone, batch_run_id, mode, scope, keep_chosen, status, requested_by, plan_only, planned_at, reverts_run_id, claims
with next as (
  select r.district_id, r.batch_run_id
  from batch_run r
  where is_unfinished(r.status)
    and (r.lease_owner is null or r.lease_owner = :lease_owner or r.lease_expires_at < now())
    and (r.status <> 'QUEUED' or r.plan_only or not exists (
      select from batch_run other
      where other.district_id = r.district_id and other.batch_run_id <> r.batch_run_id
        and is_unfinished(other.status) and not other.plan_only
        and (other.status <> 'QUEUED'
          or (other.queued_at, other.batch_run_id) < (r.queued_at, r.batch_run_id))))
  order by r.queued_at, r.batch_run_id
  limit 1
  for no key update skip locked -- rows that refer to the run do not hide it
)
update batch_run r
set status = case when r.status = 'QUEUED' then 'PLANNING' else r.status end,
  planning_step = case when r.status <> 'APPLYING' then 'SELECTING_PEOPLE'::planning_step end,
  planning_done = case when r.status <> 'APPLYING' then 0 end,
  planning_total = case when r.status <> 'APPLYING' then 0 end,
  claims = r.claims + 1, lease_owner = :lease_owner, lease_expires_at = now() + make_interval(secs => :lease_seconds)
from next
join district d on d.district_id = next.district_id
where r.district_id = next.district_id and r.batch_run_id = next.batch_run_id
returning r.district_id, d.code, d.time_zone, r.batch_run_id, r.mode, r.scope, r.keep_chosen, r.status, r.requested_by,
  r.plan_only, r.planned_at, r.reverts_run_id, r.claims
