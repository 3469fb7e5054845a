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
-- Returns the population of the run that a revert reverts, and whether the log no longer holds what the run did.
-- Parameters: district_id, batch_run_id
-- Columns: population, folded
select population, folded
from batch_run where district_id = :district_id and batch_run_id = :batch_run_id

-- name: create_undone
-- Creates the table `undone` for the transaction that plans a revert: a row for each channel that the reverted run
-- changed. `flipped` are the bits that the run changed, `touched` those of them that somebody else has changed since.
-- The other columns are about the rest, `flipped & ~touched`: what was on, off and chosen before the run and before
-- all runs that are reverted by now, and which bits are not now what they were then.
-- Parameters: none
-- Columns: none
create temp table undone (
  household boolean not null,
  subject_id bigint not null,
  contact_point contact_point_kind not null,
  method method not null,
  flipped bigint not null,
  touched bigint not null,
  on_before bigint not null,
  off_before bigint not null,
  chosen_before bigint not null,
  differs bigint not null, -- on now and off before, or the other way around
  choice_differs bigint not null -- chosen now and not before, or the other way around
) on commit drop

-- name: fill_undone
-- Fills `undone` from the log (D29). Undone runs are the run itself and whichever run is reverted by now; their
-- changes are those that they made, and those that their reverts made. Going back from the newest change of a bit, the
-- undone changes up to the first that somebody else made are its stretch. If the run's own change is in the stretch,
-- the bit is to be what it was before the oldest change of the stretch; else somebody else has changed it since.
--
-- The run's own rows say which buckets and channels are concerned. Of these alone the log is read, from the oldest
-- undone change that overlaps with the run's. Only rows with a bit that the run changed are unpacked. Of what others did
-- after the run it only matters which bits they changed, so that is not put in order.
-- A run whose changes were folded into the baseline counts as somebody else: what was before it is not known.
-- Parameters: district_id, reverts_run_id
-- Columns: none
with undone_run as materialized (
  select batch_run_id
  from batch_run
  where district_id = :district_id and not folded and (status = 'REVERTED' or batch_run_id = :reverts_run_id)
),
undone_set as materialized (
  select s.revision, s.batch_run_id = :reverts_run_id as own
  from batch_run r
  join change_set s on s.district_id = :district_id and s.batch_run_id = r.batch_run_id
  where r.district_id = :district_id
    and coalesce(r.reverts_run_id, r.batch_run_id) = any (array(select batch_run_id from undone_run))
),
undone_row as materialized ( -- still packed
  select c.revision, c.subject, c.bucket, c.contact_point, c.method, c.reasons, s.own
  from change c
  join undone_set s using (revision)
  where c.district_id = :district_id and c.kind = 'PREFERENCES'
    and c.revision = any (array(select revision from undone_set))
),
concerned as (
  select subject, bucket, contact_point, method, bit_or(reasons) as reasons, max(revision) as last
  from undone_row where own
  group by subject, bucket, contact_point, method
),
channel as materialized (
  select c.subject, c.bucket, c.contact_point, c.method, c.reasons, c.last, min(u.revision) as since
  from concerned c
  join undone_row u using (subject, bucket, contact_point, method)
  where u.reasons & c.reasons <> 0
  group by c.subject, c.bucket, c.contact_point, c.method, c.reasons, c.last
),
read_back as materialized ( -- still packed
  select c.*, s.revision is not null as undone, coalesce(s.own, false) as own,
    s.revision is null and c.revision > channel.last as overwrote
  from channel
  cross join lateral (
    select c.revision, c.subject, c.contact_point, c.method, c.subject_ids, c.turned_on, c.turned_off, c.chosen, c.unchosen
    from change c
    where c.district_id = :district_id and c.subject = channel.subject and c.bucket = channel.bucket
      and c.revision >= channel.since and c.kind = 'PREFERENCES' and c.contact_point = channel.contact_point
      and c.method = channel.method and c.reasons & channel.reasons <> 0
    offset 0
  ) c
  left join undone_set s on s.revision = c.revision
),
happened as not materialized (
  select r.revision, r.undone, r.own, r.overwrote, r.subject, r.contact_point, r.method, one.subject_id,
    coalesce(one.turned_on, r.turned_on[1], 0) as turned_on, coalesce(one.turned_off, r.turned_off[1], 0) as turned_off,
    coalesce(one.chosen, r.chosen[1], 0) as chosen, coalesce(one.unchosen, r.unchosen[1], 0) as unchosen
  from read_back r
  cross join lateral unnest(r.subject_ids, r.turned_on, r.turned_off, r.chosen, r.unchosen)
    as one (subject_id, turned_on, turned_off, chosen, unchosen)
),
later as (
  select *, coalesce(bit_or(case when not undone then turned_on | turned_off | chosen | unchosen end) over newer, 0) as touched
  from happened where not overwrote
  window newer as (
    partition by subject, contact_point, method, subject_id
    order by revision desc rows between unbounded preceding and 1 preceding
  )
),
stretch as (
  select subject, contact_point, method, subject_id, revision,
    case when own then turned_on | turned_off else 0 end as flipped,
    case when own then touched else 0 end as touched,
    turned_on & ~touched as turned_on, turned_off & ~touched as turned_off,
    chosen & ~touched as chosen, unchosen & ~touched as unchosen
  from later where undone
),
first_of_bit as (
  select *,
    ~coalesce(bit_or(turned_on | turned_off) over older, 0) as first_flip,
    ~coalesce(bit_or(chosen | unchosen) over older, 0) as first_choice
  from stretch
  window older as (
    partition by subject, contact_point, method, subject_id
    order by revision rows between unbounded preceding and 1 preceding
  )
),
summed as (
  select subject, contact_point, method, subject_id,
    bit_or(flipped) as flipped, bit_or(touched) & bit_or(flipped) as touched,
    bit_or(turned_off & first_flip) as on_before, bit_or(turned_on & first_flip) as off_before,
    bit_or(unchosen & first_choice) as chosen_before,
    bit_xor(turned_on | turned_off) as differs, bit_xor(chosen | unchosen) as choice_differs
  from (
    select subject, contact_point, method, subject_id, flipped, touched, turned_on, turned_off, chosen, unchosen,
      first_flip, first_choice
    from first_of_bit
    union all
    select subject, contact_point, method, subject_id, 0, bit_or(turned_on | turned_off | chosen | unchosen), 0, 0, 0, 0, 0, 0
    from happened where overwrote
    group by subject, contact_point, method, subject_id
  ) s
  group by subject, contact_point, method, subject_id
)
insert into undone (household, subject_id, contact_point, method, flipped, touched, on_before, off_before,
  chosen_before, differs, choice_differs)
select subject = 'HOUSEHOLD', subject_id, contact_point, method, flipped, touched,
  on_before & flipped & ~touched, off_before & flipped & ~touched, chosen_before & flipped & ~touched,
  differs & flipped & ~touched, choice_differs & flipped & ~touched
from summed
where flipped <> 0

-- name: count_left
-- Counts the cells that a revert leaves as they are: somebody changed them since, or they are again what they were before
-- the run, a choice included.
-- Parameters: district_id, batch_run_id
-- Columns: none
with counted as (
  select contact_point, touched, flipped & ~(touched | differs | (chosen_before & choice_differs)) as as_before,
    count(*) as rows
  from undone
  group by 1, 2, 3
),
by_cell as (
  select counted.contact_point, r.code as reason,
    coalesce(sum(counted.rows) filter (where counted.touched & (1::bigint << r.bit) <> 0), 0) as touched,
    coalesce(sum(counted.rows) filter (where counted.as_before & (1::bigint << r.bit) <> 0), 0) as as_before
  from counted
  join contact_reason r
    on r.district_id = :district_id and (counted.touched | counted.as_before) & (1::bigint << r.bit) <> 0
  group by counted.contact_point, r.code
)
update batch_cell cell
set left_alone = cell.left_alone + by_cell.touched, unchanged = cell.unchanged + by_cell.as_before
from by_cell
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = by_cell.contact_point and cell.reason = by_cell.reason

-- name: find_channels
-- Finds what a revert is to write to people, or to households, with the value on record: a bit that is not what it was is
-- turned on or off again, and a bit that was chosen is marked as chosen again, also one that is not turned on or off. A bit
-- that is chosen now and was not, by the log, when the revert was planned, is skipped. {table} and {subject}: see
-- preference/write.
--
-- A bit that is only to be marked is compared with the preference of now: somebody may have turned it on or off after
-- `undone` was filled, and then it is left alone. Such bits are few.
-- Parameters: district_id, household
-- Columns: none
insert into all_channels (household, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen,
  address)
select u.household, u.subject_id, u.contact_point, u.method, u.on_before & u.differs, u.off_before & u.differs,
  u.differs & ~(u.chosen_before & ~u.choice_differs),
  u.chosen_before & (u.differs | (u.choice_differs & ~(coalesce(now.reasons_on, 0) # u.on_before))),
  case
    when u.on_before & u.differs = 0 then null -- rules are asked about what is turned on
    when u.household then (
      select h.phone from household h where h.district_id = :district_id and h.household_id = u.subject_id)
    else (
      select c.value from contact_point c
      where c.district_id = :district_id and c.person_id = u.subject_id and c.kind = u.contact_point)
  end
from undone u
left join lateral (
  select p.reasons_on
  from {table} p
  where u.chosen_before & u.choice_differs & ~u.differs <> 0
    and p.district_id = :district_id and p.{subject} = u.subject_id
    and p.contact_point = u.contact_point and p.method = u.method
) now on true
where u.household = :household
