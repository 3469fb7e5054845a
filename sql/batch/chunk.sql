-- One chunk of a run that is being applied. Its transaction is: `open`, batch/write_chunk, then batch/count. What somebody
-- changed after the plan stays in batch_target as CHANGED: these channels, and only these, are written by a second
-- transaction, in which they are locked (`lock`) and decided again (batch/plan/write_targets with `changed_now`) before
-- batch/write_chunk.
--
-- All of these statements are planned once for all chunks, and a chunk is small while its tables are large. `open`
-- therefore leaves the planner nothing but nested loops over indexes.

-- name: open
-- Returns the next chunk of a run, renews the lease, locks the run and its cells, and signals to watchers of the run
-- (see batch/run/notify) that it has changed, which they hear once the transaction is committed. No row is returned if
-- the lease was lost; `chunk` is null if all chunks are done.
--
-- For the rest of the transaction hash and merge joins and scans of whole tables are switched off, see above; and a
-- server that stops in the middle loses the transaction when its lease expires.
-- Parameters: district_id, batch_run_id, lease_owner, lease_seconds, channel
-- Columns: chunk, household, subjects, state (CHANGED: to be locked and decided), today, reasons, bits (of the cells), settings
with run as (
  update batch_run set lease_expires_at = now() + make_interval(secs => :lease_seconds)
  where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
    and status = 'APPLYING'
  returning chunks_done, today, pg_notify(:channel, district_id || ' ' || batch_run_id)
),
cell as materialized (
  select cell.reason, r.bit
  from batch_cell cell
  join contact_reason r on r.district_id = :district_id and r.code = cell.reason
  where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  order by cell.contact_point, cell.reason
  for update of cell
)
select next.chunk, next.household, next.subjects, next.state, run.today,
  array(select reason from cell) as reasons, array(select bit from cell) as bits,
  array[set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('idle_in_transaction_session_timeout',
      ceil(:lease_seconds::double precision * 1000)::bigint::text, true)] as settings
from run
left join lateral (
  select t.chunk, t.household, t.subjects, t.state
  from batch_target t
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = run.chunks_done + 1
  order by t.state desc
  limit 1
) next on true

-- name: lock
-- Locks, in the order of their keys, the preference rows that somebody changed after the plan. {table} and {subject}:
-- see preference/write.
-- Parameters: district_id, batch_run_id, chunk
-- Columns: locked (how many there are)
select count(*) as locked
from (
  select s.subject_id, t.contact_point, t.method
  from batch_target t
  cross join lateral unnest(t.subject_ids) as s (subject_id)
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = :chunk and t.state = 'CHANGED'
  order by s.subject_id, t.contact_point, t.method
) t
cross join lateral (
  select
  from {table} p
  where p.district_id = :district_id and p.{subject} = t.subject_id
    and p.contact_point = t.contact_point and p.method = t.method
  for update
) row

-- name: changed_now
-- Lists what somebody changed after the plan, with the preferences as they are now: the {channel} of batch/decide, for
-- batch/plan/write_targets. `changed` are, in a revert, the bits that were changed (D29).
-- Parameters: district_id, batch_run_id, chunk, reverts
-- Columns: household, part, position, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen, place, changed
select t.household, 0 as part, t.subjects as position, s.subject_id, t.contact_point, t.method,
  coalesce(s.on_mask, t.on_masks[1], 0) as on_mask, coalesce(s.off_mask, t.off_masks[1], 0) as off_mask,
  coalesce(s.skip_if_chosen, t.skip_if_chosen[1], 0) as skip_if_chosen,
  coalesce(s.mark_as_chosen, t.mark_as_chosen[1], 0) as mark_as_chosen,
  coalesce(now.reasons_on, 0) as was_on, coalesce(now.reasons_chosen, 0) as was_chosen, now.place,
  case when :reverts
    then coalesce((coalesce(s.was_on, t.was_on[1]) # coalesce(now.reasons_on, 0))
      | (coalesce(s.was_chosen, t.was_chosen[1]) # coalesce(now.reasons_chosen, 0)), 0)
    else 0
  end as changed
from batch_target t
cross join lateral unnest(t.subject_ids, t.on_masks, t.off_masks, t.skip_if_chosen, t.mark_as_chosen, t.was_on, t.was_chosen)
  as s (subject_id, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen)
left join lateral (
  select p.ctid as place, p.reasons_on, p.reasons_chosen
  from {table} p
  where p.district_id = :district_id and p.{subject} = s.subject_id
    and p.contact_point = t.contact_point and p.method = t.method
  offset 0
) now on true
where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = :chunk and t.state = 'CHANGED'

-- name: changed_households
-- Returns the households that a revision changed, and the changed bits, from the log.
-- Parameters: district_id, revision
-- Columns: household_id, reasons
select subject_id as household_id, turned_on | turned_off as reasons
from subject_change
where district_id = :district_id and revision = :revision and subject = 'HOUSEHOLD'
