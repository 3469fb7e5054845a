-- Gives a worker the oldest run, of any district, that nobody works and before which no other stands in its district
-- (D21): one that is new, one whose lease has expired, or the worker's own.
-- Parameters: lease_owner, lease_seconds
-- Columns: district_id, code, time_zone, batch_run_id, mode, scope, keep_chosen, status, requested_by
with next as (
  select r.district_id, r.batch_run_id
  from batch_run r
  where r.status in ('QUEUED', 'PLANNING', 'APPLYING')
    and (r.lease_owner is null or r.lease_owner = :lease_owner or r.lease_expires_at < now())
    and not exists (
      select from batch_run before
      where before.district_id = r.district_id and before.batch_run_id < r.batch_run_id
        and before.status in ('QUEUED', 'PLANNING', 'APPLYING', 'REVERTING'))
  order by r.requested_at
  limit 1
  for update skip locked
)
update batch_run r
set status = case when r.status = 'QUEUED' then 'PLANNING' else r.status end,
  lease_owner = :lease_owner, lease_expires_at = now() + make_interval(secs => :lease_seconds)
from next
join district d on d.district_id = next.district_id
where r.district_id = next.district_id and r.batch_run_id = next.batch_run_id
returning r.district_id, d.code, d.time_zone, r.batch_run_id, r.mode, r.scope, r.keep_chosen, r.status, r.requested_by
