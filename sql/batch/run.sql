-- The row of a run in batch_run, from its insert to its end, and the cells that it names. A worker holds a run by
-- a lease: what only the run's worker may do compares lease_owner. What an administrator does to a run locks its
-- row first (`lock`), so that it comes wholly before or wholly after a claim or a chunk.

-- name: insert
-- Inserts a run into the queue. Any free worker may take it. A dry run is only planned, until somebody applies it.
-- Parameters: district_id, mode, scope, keep_chosen, dry_run, requested_by
-- Columns: batch_run_id
insert into batch_run (district_id, mode, scope, keep_chosen, dry_run, plan_only, requested_by)
values (:district_id, :mode, :scope::jsonb, :keep_chosen, :dry_run, :dry_run, :requested_by)
returning batch_run_id

-- name: insert_cells
-- Inserts the cells that a run names (D13).
-- Parameters: district_id, batch_run_id, contact_points, reasons, turn_ons (arrays of one length)
-- Columns: none
insert into batch_cell (district_id, batch_run_id, contact_point, reason, turn_on)
select :district_id, :batch_run_id, c.contact_point, c.reason, c.turn_on
from unnest(:contact_points::contact_point_kind[], :reasons::text[], :turn_ons::boolean[])
  as c (contact_point, reason, turn_on)

-- name: cells
-- Returns the cells that a run names.
-- Parameters: district_id, batch_run_id
-- Columns: contact_point, reason, turn_on
select contact_point, reason, turn_on from batch_cell
where district_id = :district_id and batch_run_id = :batch_run_id
order by contact_point, reason

-- name: claim
-- Gives a worker one run of any district, together with a lease. A run can be claimed if nobody works it and it is
-- its district's turn (D21), the longest in the queue first; a plan waits for no turn. A run whose lease has
-- expired, or is the worker's own, can be claimed too. Planning starts again from the beginning. `claims` counts
-- the claims since the run last made progress, this one included. Rows that other workers are claiming are
-- skipped. A database with a migration that is not among :migrations belongs to a newer release: its runs are left to
-- servers of that release, which know the tables.
-- Parameters: lease_owner, lease_seconds, migrations (names of all that this release knows)
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
    and not exists (select from migration m where m.name <> all (:migrations::text[]))
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

-- name: record_planning
-- Records how far the plan of a run is and renews the worker's lease. No row is returned if another worker has
-- taken the run over. If the plan has just ended, only the lease is renewed. Watchers are notified (see `notify`)
-- in the same statement and transaction, because this transaction must lock the run as briefly as possible.
-- Parameters: district_id, batch_run_id, lease_owner, lease_seconds, step, done, total, channel
-- Columns: batch_run_id
update batch_run
set lease_expires_at = now() + make_interval(secs => :lease_seconds),
  planning_step = case when status = 'PLANNING' then :step::planning_step end,
  planning_done = case when status = 'PLANNING' then :done::bigint end,
  planning_total = case when status = 'PLANNING' then :total::bigint end
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
  and is_worked(status)
returning batch_run_id, pg_notify(:channel, district_id || ' ' || batch_run_id) -- at once: nothing else is to lock the run

-- name: release
-- Gives a run back, so that another worker can claim it at once. The claim that ends here is not counted.
-- Parameters: district_id, batch_run_id, lease_owner
-- Columns: none
update batch_run set lease_owner = null, lease_expires_at = null, claims = greatest(claims - 1, 0)
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner

-- name: fail
-- Ends a run that its worker could not complete, with the reasons.
-- Parameters: district_id, batch_run_id, lease_owner, errors
-- Columns: population
update batch_run
set status = 'FAILED', finished_at = now(), errors = :errors::text[], lease_owner = null, lease_expires_at = null,
  planning_step = null, planning_done = null, planning_total = null
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner
  and is_worked(status)
returning population

-- name: finish
-- Ends a run whose chunks are all written. If the run is a revert, the run that it reverts becomes REVERTED.
-- Parameters: district_id, batch_run_id, lease_owner
-- Columns: population, reverted (the reverted run's batch_run_id, or null), whole (whether as many people and households were written as were planned)
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

-- name: lock
-- Locks a run before its state is changed. Inserts of rows that refer to the run do not have to wait for this
-- lock.
-- Parameters: district_id, batch_run_id
-- Columns: status, reverts_run_id, chunks_done, folded
select status, reverts_run_id, chunks_done, folded
from batch_run
where district_id = :district_id and batch_run_id = :batch_run_id
for no key update

-- name: queue
-- Puts a plan into the queue, to be applied when its turn comes. The caller has locked the run.
-- Parameters: district_id, batch_run_id
-- Columns: none
update batch_run set status = 'QUEUED', plan_only = false, queued_at = now()
where district_id = :district_id and batch_run_id = :batch_run_id

-- name: cancel
-- Ends a run that has written nothing. The caller has locked the run.
-- Parameters: district_id, batch_run_id
-- Columns: batch_run_id, mode, status, population
update batch_run
set status = 'CANCELLED', finished_at = now(), lease_owner = null, lease_expires_at = null,
  planning_step = null, planning_done = null, planning_total = null
where district_id = :district_id and batch_run_id = :batch_run_id
returning batch_run_id, mode, status, population

-- name: notify
-- Notifies the watchers of a run, in every server process, that the run has changed. PostgreSQL delivers the
-- notification when the transaction commits.
-- Parameters: channel, district_id, batch_run_id
-- Columns: none
select pg_notify(:channel, :district_id::integer || ' ' || :batch_run_id::bigint)

-- name: state
-- Returns the state of a run that its watchers are told.
-- Parameters: district_id, batch_run_id
-- Columns: status, done, total, population, at_rest, planning_step, planning_done, planning_total
select status, done, total, population, is_at_rest(status) as at_rest,
  planning_step, planning_done, planning_total
from batch_run where district_id = :district_id and batch_run_id = :batch_run_id

-- name: at_rest
-- Returns whether a run is at rest: it has ended or is PLANNED.
-- Parameters: district_id, batch_run_id
-- Columns: at_rest
select is_at_rest(status) as at_rest
from batch_run where district_id = :district_id and batch_run_id = :batch_run_id
