-- The counts of a run's cells. {counts} is the table that holds them: batch_cell for what a run did,
-- batch_forecast for what a plan predicts. Both have the same columns (D20).

-- name: cells
-- Adds to the counts of cells. Of a person's own contact point as many people are affected as cells were updated;
-- the people of a household phone are added by `people`.
-- Parameters: district_id, batch_run_id, contact_points, reasons, updated, unchanged, overwrote, kept, left (arrays of one length)
-- Columns: none
update {counts} cell
set updated = cell.updated + n.updated, unchanged = cell.unchanged + n.unchanged,
  overwrote_chosen = cell.overwrote_chosen + n.overwrote, kept_chosen = cell.kept_chosen + n.kept,
  left_alone = cell.left_alone + n.left_alone,
  people_affected = cell.people_affected + case when cell.contact_point <> 'HOUSEHOLD_PHONE' then n.updated else 0 end
from unnest(:contact_points::contact_point_kind[], :reasons::text[],
  :updated::bigint[], :unchanged::bigint[], :overwrote::bigint[], :kept::bigint[], :left::bigint[])
  as n (contact_point, reason, updated, unchanged, overwrote, kept, left_alone)
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = n.contact_point and cell.reason = n.reason

-- name: people
-- Adds the people whom changes of a household phone affect (D17): the active members of the households of
-- {changed}, a SELECT of household_id and the changed bits. A person who is a member of another household too,
-- which the same run changed before according to the log, has been counted already and is left out. The statement
-- is written for nested loops (see batch/chunk/settings): `offset 0` keeps each look-up by key from being turned
-- into a join that scans.
-- Parameters: district_id, batch_run_id, today, revision (of the changes; null if the run changed nothing before)
-- Columns: none
with member as materialized (
  select m.person_id, m.household_id, changed.reasons
  from ({changed}) changed
  cross join lateral (
    select h.person_id, h.household_id
    from household_member h
    where h.district_id = :district_id and h.household_id = changed.household_id
      and active_on(h.start_date, h.end_date, :today)
    offset 0
  ) m
),
elsewhere as (
  select member.person_id, m.household_id
  from member
  cross join lateral (
    select h.household_id
    from household_member h
    where h.district_id = :district_id and h.person_id = member.person_id and h.household_id <> member.household_id
      and active_on(h.start_date, h.end_date, :today)
    offset 0
  ) m
  where :revision::bigint is not null
),
concerned as (
  select person_id, reasons, 0::bigint as before from member
  union all
  select elsewhere.person_id, 0, c.reasons
  from elsewhere
  cross join lateral (
    select change.turned_on | change.turned_off as reasons
    from change
    where change.district_id = :district_id and change.household_id = elsewhere.household_id
      and change.kind = 'PREFERENCES' and change.revision < :revision
      and :batch_run_id = (
        select s.batch_run_id from change_set s where s.district_id = :district_id and s.revision = change.revision)
    offset 0
  ) c
),
fresh as (
  select person_id, bit_or(reasons) & ~bit_or(before) as reasons from concerned group by person_id
),
counted as (
  select reasons, count(*) as people from fresh group by reasons
),
by_reason as (
  select r.code as reason, sum(counted.people) as people
  from counted
  join contact_reason r on r.district_id = :district_id and counted.reasons & (1::bigint << r.bit) <> 0
  group by r.code
)
update {counts} cell set people_affected = cell.people_affected + by_reason.people
from by_reason
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = 'HOUSEHOLD_PHONE' and cell.reason = by_reason.reason
