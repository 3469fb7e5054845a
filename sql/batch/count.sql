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
-- is written for nested loops (see batch/chunk/open): `offset 0` keeps each look-up by key from being turned
-- into a join that scans. Each bucket of the log is unpacked once, and meets its people by a GROUP BY.
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
changed_before as (
  select c.household_id, c.reasons
  from (select distinct bucket_of(household_id) as bucket from elsewhere) b
  cross join lateral (
    select c.subject_id as household_id, c.turned_on | c.turned_off as reasons
    from subject_change c
    where c.district_id = :district_id and c.subject = 'HOUSEHOLD' and c.bucket = b.bucket
      and c.kind = 'PREFERENCES' and c.revision < :revision
      and c.revision >= (
        select min(s.revision) from change_set s
        where s.district_id = :district_id and s.batch_run_id = :batch_run_id)
      and :batch_run_id = (
        select s.batch_run_id from change_set s where s.district_id = :district_id and s.revision = c.revision)
    offset 0
  ) c
),
counted_before as (
  select household_id, bit_or(reasons) as reasons, array_agg(person_id) filter (where person_id is not null) as people
  from (
    select household_id, person_id, 0::bigint as reasons from elsewhere
    union all
    select household_id, null, reasons from changed_before
  ) both_sides
  group by household_id
),
concerned as (
  select person_id, reasons, 0::bigint as before from member
  union all
  select p.person_id, 0, c.reasons
  from counted_before c
  cross join lateral unnest(c.people) as p (person_id)
  where c.reasons <> 0
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
