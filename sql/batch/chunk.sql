-- One chunk of a run that is being applied. Its transaction is: `open`, batch/write_chunk with `target`, then
-- batch/count. What somebody changed after the plan stays in batch_target, under locks: these channels, and only
-- these, are written by a second transaction, in which `lock` comes before batch/write_chunk with `target_now`.
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
-- Columns: chunk, household, subjects, under_locks, today, reasons, bits (of the cells), settings
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
select next.chunk, next.household, next.subjects, next.under_locks, run.today,
  array(select reason from cell) as reasons, array(select bit from cell) as bits,
  array[set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('idle_in_transaction_session_timeout',
      ceil(:lease_seconds::double precision * 1000)::bigint::text, true)] as settings
from run
left join lateral (
  select t.chunk, t.household, t.subjects, t.under_locks
  from batch_target t
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = run.chunks_done + 1
  order by t.under_locks desc
  limit 1
) next on true

-- name: target
-- Returns what a chunk is to write, and what the plan read: the {target} of batch/write_chunk.
-- Parameters: district_id, batch_run_id, chunk
-- Columns: subject_id, contact_point, method, missing, place, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen, changed
select s.subject_id, t.contact_point, t.method, t.missing, s.place,
  coalesce(s.on_mask, t.on_mask) as on_mask, coalesce(s.off_mask, t.off_mask) as off_mask,
  coalesce(s.skip_if_chosen, t.first_skip) as skip_if_chosen, coalesce(s.mark_as_chosen, t.first_mark) as mark_as_chosen,
  coalesce(s.was_on, t.first_was_on) as was_on, coalesce(s.was_chosen, t.first_was_chosen) as was_chosen,
  0::bigint as changed
from (
  -- The masks that are the same for all, read from their arrays once for all.
  select *, coalesce(on_masks[1], 0) as on_mask, coalesce(off_masks[1], 0) as off_mask,
    coalesce(skip_if_chosen[1], 0) as first_skip, coalesce(mark_as_chosen[1], 0) as first_mark,
    was_on[1] as first_was_on, was_chosen[1] as first_was_chosen
  from batch_target
  where district_id = :district_id and batch_run_id = :batch_run_id and chunk = :chunk and not under_locks
  offset 0
) t
cross join lateral unnest(t.subject_ids, t.places, t.on_masks, t.off_masks, t.skip_if_chosen, t.mark_as_chosen,
    t.was_on, t.was_chosen)
  as s (subject_id, place, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen)

-- name: lock
-- Locks, in the order of their keys, the preference rows that a chunk is to write under locks. {table} and {subject}:
-- see preference/write.
-- Parameters: district_id, batch_run_id, chunk
-- Columns: locked (how many there are)
select count(*) as locked
from (
  select s.subject_id, t.contact_point, t.method
  from batch_target t
  cross join lateral unnest(t.subject_ids) as s (subject_id)
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = :chunk and t.under_locks
  order by s.subject_id, t.contact_point, t.method
) t
cross join lateral (
  select
  from {table} p
  where p.district_id = :district_id and p.{subject} = t.subject_id
    and p.contact_point = t.contact_point and p.method = t.method
  for update
) row

-- name: target_now
-- Returns what a chunk is to write under locks, with the preferences as they are now: the {target} of
-- batch/write_chunk. `changed` are, in a revert, the bits that somebody changed after the plan (D29).
-- Parameters: district_id, batch_run_id, chunk, reverts
-- Columns: subject_id, contact_point, method, missing, place, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen, changed
select t.subject_id, t.contact_point, t.method, now.place is null as missing, now.place,
  t.on_mask, t.off_mask, t.skip_if_chosen, t.mark_as_chosen,
  coalesce(now.reasons_on, 0) as was_on, coalesce(now.reasons_chosen, 0) as was_chosen,
  case when :reverts
    then coalesce((t.was_on # coalesce(now.reasons_on, 0)) | (t.was_chosen # coalesce(now.reasons_chosen, 0)), 0)
    else 0
  end as changed
from (
  select s.subject_id, t.contact_point, t.method,
    coalesce(s.on_mask, t.on_masks[1], 0) as on_mask, coalesce(s.off_mask, t.off_masks[1], 0) as off_mask,
    coalesce(s.skip_if_chosen, t.skip_if_chosen[1], 0) as skip_if_chosen,
    coalesce(s.mark_as_chosen, t.mark_as_chosen[1], 0) as mark_as_chosen,
    coalesce(s.was_on, t.was_on[1]) as was_on, coalesce(s.was_chosen, t.was_chosen[1]) as was_chosen
  from batch_target t
  cross join lateral unnest(t.subject_ids, t.on_masks, t.off_masks, t.skip_if_chosen, t.mark_as_chosen, t.was_on,
      t.was_chosen)
    as s (subject_id, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen)
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = :chunk and t.under_locks
) t
left join lateral (
  select p.ctid as place, p.reasons_on, p.reasons_chosen
  from {table} p
  where p.district_id = :district_id and p.{subject} = t.subject_id
    and p.contact_point = t.contact_point and p.method = t.method
  offset 0
) now on true

-- name: changed_households
-- Returns the households that a revision changed, and the changed bits, from the log.
-- Parameters: district_id, revision
-- Columns: household_id, reasons
select subject_id as household_id, turned_on | turned_off as reasons
from subject_change
where district_id = :district_id and revision = :revision and subject = 'HOUSEHOLD'
