-- Opens the next chunk of a run: renews the lease, and locks the run and its cells. No row where the lease was lost;
-- `chunk` is null where all is done. `cells` is asked for only so that they are locked.
-- Parameters: district_id, batch_run_id, lease_owner, lease_seconds
-- Columns: chunk, household, subjects, today, cells
with held as (
  update batch_run set lease_expires_at = now() + make_interval(secs => :lease_seconds)
  where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
    and status = 'APPLYING'
  returning chunks_done, today
),
cell as materialized (
  select from batch_cell
  where district_id = :district_id and batch_run_id = :batch_run_id
  order by contact_point, reason
  for update
)
select next.chunk, next.household, next.subjects, held.today, (select count(*) from cell) as cells
from held
left join lateral (
  select t.chunk, t.household, t.subjects
  from batch_target t
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = held.chunks_done + 1
  limit 1
) next on true
