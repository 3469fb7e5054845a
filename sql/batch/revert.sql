-- The revert of a run (D29): a run of its own, whose plan is what the log says that the reverted run changed.

-- name: begin
-- Takes a run from its worker, marks it as REVERTING, and inserts the run that reverts it. With :at_once the
-- revert comes before all others in the queue, because the district is in a half-written state until it is done.
-- The caller has locked the run.
-- Parameters: district_id, batch_run_id, requested_by, status_before, at_once
-- Columns: batch_run_id
with original as (
  update batch_run
  set status = 'REVERTING', status_before_revert = :status_before, lease_owner = null, lease_expires_at = null
  where district_id = :district_id and batch_run_id = :batch_run_id
  returning mode, scope, queued_at
)
insert into batch_run (district_id, mode, scope, requested_by, reverts_run_id, queued_at)
select :district_id, mode, scope, :requested_by, :batch_run_id, case when :at_once then queued_at else now() end
from original
returning batch_run_id

-- name: insert_cells
-- Inserts the cells of a revert: those of the reverted run, with ON and OFF exchanged.
-- Parameters: district_id, batch_run_id, reverts_run_id
-- Columns: none
insert into batch_cell (district_id, batch_run_id, contact_point, reason, turn_on)
select district_id, :batch_run_id, contact_point, reason, not turn_on
from batch_cell where district_id = :district_id and batch_run_id = :reverts_run_id

-- name: restore_status
-- Gives a run the status back that it had before its revert, which did not come to its end.
-- Parameters: district_id, batch_run_id (of the revert)
-- Columns: batch_run_id, mode, status, population, ended (whether the run ends now: it had not when the revert began)
update batch_run original
set status = original.status_before_revert, finished_at = coalesce(original.finished_at, now())
from batch_run revert, batch_run before
where revert.district_id = :district_id and revert.batch_run_id = :batch_run_id
  and original.district_id = :district_id and original.batch_run_id = revert.reverts_run_id
  and before.district_id = :district_id and before.batch_run_id = original.batch_run_id
  and original.status = 'REVERTING'
returning original.batch_run_id, original.mode, original.status, original.population, before.finished_at is null as ended

-- name: reverted_run
-- Returns the population of the run that a revert reverts.
-- Parameters: district_id, batch_run_id
-- Columns: population
select population
from batch_run where district_id = :district_id and batch_run_id = :batch_run_id

-- name: create_undone
-- Creates the table `undone` for the transaction that plans a revert: a row for each channel that the reverted run
-- changed. `touched` are the bits that somebody has changed since.
-- Parameters: none
-- Columns: none
create temp table undone (
  household boolean not null,
  subject_id bigint not null,
  contact_point contact_point_kind not null,
  method method not null,
  turned_on bigint not null,
  turned_off bigint not null,
  unchosen bigint not null,
  touched bigint not null
) on commit drop

-- name: fill_undone
-- Fills `undone` from the log: what the run changed, and which of these bits anybody else changed later (D29). A
-- run changes a channel once at most.
-- Parameters: district_id, reverts_run_id
-- Columns: none
with own as materialized (
  select s.revision from change_set s
  where s.district_id = :district_id and s.batch_run_id = :reverts_run_id
),
done as (
  select c.revision, c.subject = 'HOUSEHOLD' as household, c.subject_id,
    c.contact_point, c.method, c.turned_on, c.turned_off, c.unchosen
  from subject_change c
  where c.district_id = :district_id and c.kind = 'PREFERENCES'
    and c.revision = any (array(select revision from own))
),
later as materialized (
  select c.revision, c.subject = 'HOUSEHOLD' as household, c.subject_id,
    c.contact_point, c.method, c.turned_on | c.turned_off | c.chosen | c.unchosen as touched
  from subject_change c
  where c.district_id = :district_id and c.kind = 'PREFERENCES'
    and c.revision = any (array(
      select s.revision from change_set s
      where s.district_id = :district_id and s.revision > (select min(revision) from own)
        and s.batch_run_id is distinct from :reverts_run_id))
),
touched as (
  select done.household, done.subject_id, done.contact_point, done.method, bit_or(later.touched) as touched
  from done
  join later using (household, subject_id, contact_point, method)
  where later.revision > done.revision
  group by done.household, done.subject_id, done.contact_point, done.method
)
insert into undone (household, subject_id, contact_point, method, turned_on, turned_off, unchosen, touched)
select household, subject_id, contact_point, method, done.turned_on, done.turned_off, done.unchosen,
  coalesce(touched.touched, 0)
from done
left join touched using (household, subject_id, contact_point, method)

-- name: count_touched
-- Counts the cells that a revert leaves as they are because somebody changed them since.
-- Parameters: district_id, batch_run_id
-- Columns: none
with counted as (
  select contact_point, (turned_on | turned_off) & touched as reasons, count(*) as rows
  from undone where (turned_on | turned_off) & touched <> 0
  group by 1, 2
),
by_cell as (
  select counted.contact_point, r.code as reason, sum(counted.rows) as rows
  from counted
  join contact_reason r on r.district_id = :district_id and counted.reasons & (1::bigint << r.bit) <> 0
  group by counted.contact_point, r.code
)
update batch_cell cell set left_alone = cell.left_alone + by_cell.rows
from by_cell
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = by_cell.contact_point and cell.reason = by_cell.reason

-- name: target
-- Returns what a revert is to write: every bit that the run changed gets its old value, unless it was changed
-- since, and what was a person's choice becomes one again. The run took every choice away from the bits that it
-- changed. A bit that is chosen when its chunk is written was therefore chosen in between, and is skipped.
-- Parameters: none
-- Columns: household, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen
select household, subject_id, contact_point, method, turned_off & ~touched as on_mask, turned_on & ~touched as off_mask,
  (turned_on | turned_off) & ~touched as skip_if_chosen, unchosen & ~touched as mark_as_chosen
from undone
