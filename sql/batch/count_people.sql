-- Adds the people whom a household phone concerns (D17) to {counts} (see count): the active members of the households
-- of {changed}, which gives household_id and the bits. Who is by now a member of another household too, which the run
-- changed before by its log, is counted already. Written for nested loops (see chunk_settings): each look-up is by key,
-- and none can be turned round.
-- Parameters: district_id, batch_run_id, today, revision (of the changes; null: nothing was changed before)
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
