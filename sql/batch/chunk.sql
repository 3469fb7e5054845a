-- One chunk of a run that is being applied, in one transaction. The order is: settings, open, close, then
-- preference/write with `target`, then batch/count. All of these statements are planned once for all chunks, and a
-- chunk is small while its tables are large: `settings` therefore leaves the planner nothing but nested loops over
-- indexes.

-- name: settings
-- Switches hash and merge joins off for the transaction, see above. A server that stops in the middle of a chunk
-- loses the transaction when its lease expires.
-- Parameters: lease_seconds
-- Columns: enable_hashjoin, enable_mergejoin, idle
select set_config('enable_hashjoin', 'off', true) as enable_hashjoin,
  set_config('enable_mergejoin', 'off', true) as enable_mergejoin,
  set_config('idle_in_transaction_session_timeout',
    ceil(:lease_seconds::double precision * 1000)::bigint::text, true) as idle

-- name: open
-- Returns the next chunk of a run, renews the lease, and locks the run and its cells. No row is returned if the
-- lease was lost; `chunk` is null if all chunks are done. `cells` is selected only because the CTE that locks the
-- cells would otherwise not be executed.
-- Parameters: district_id, batch_run_id, lease_owner, lease_seconds
-- Columns: chunk, household, subjects, today, cells
with run as (
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
select next.chunk, next.household, next.subjects, run.today, (select count(*) from cell) as cells
from run
left join lateral (
  select t.chunk, t.household, t.subjects
  from batch_target t
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = run.chunks_done + 1
  limit 1
) next on true

-- name: close
-- Records that a chunk is done. The run's row is locked since `open`.
-- Parameters: district_id, batch_run_id, chunk, subjects
-- Columns: none
update batch_run set chunks_done = :chunk, done = done + :subjects, claims = 0
where district_id = :district_id and batch_run_id = :batch_run_id

-- name: target
-- Returns what a chunk is to write: the {target} of preference/write.
-- Parameters: district_id, batch_run_id, chunk
-- Columns: subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen
select s.subject_id, t.contact_point, t.method,
  coalesce(s.on_mask, t.on_masks[1], 0) as on_mask, coalesce(s.off_mask, t.off_masks[1], 0) as off_mask,
  coalesce(s.skip_if_chosen, t.skip_if_chosen[1], 0) as skip_if_chosen,
  coalesce(s.mark_as_chosen, t.mark_as_chosen[1], 0) as mark_as_chosen
from batch_target t
cross join lateral unnest(t.subject_ids, t.on_masks, t.off_masks, t.skip_if_chosen, t.mark_as_chosen)
  as s (subject_id, on_mask, off_mask, skip_if_chosen, mark_as_chosen)
where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = :chunk

-- name: changed_households
-- Returns the households that a revision changed, and the changed bits, from the log.
-- Parameters: district_id, revision
-- Columns: household_id, reasons
select subject_id as household_id, turned_on | turned_off as reasons
from subject_change
where district_id = :district_id and revision = :revision and subject = 'HOUSEHOLD'
