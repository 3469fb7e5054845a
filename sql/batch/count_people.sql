-- Adds the people whom a household phone concerns (D17): the active members of the households of {changed}, which gives
-- household_id and the bits. Who is a member of another household too, which the run changed before with the revisions
-- of its log, is counted already.
-- Parameters: district_id, batch_run_id, today, revision (null: nothing was changed before)
with member as materialized (
  select m.person_id, m.household_id, changed.reasons
  from ({changed}) changed
  join household_member m on m.district_id = :district_id and m.household_id = changed.household_id
    and (m.start_date is null or m.start_date <= :today) and (m.end_date is null or m.end_date >= :today)
),
before as (
  select member.person_id, bit_or(c.turned_on | c.turned_off) as reasons
  from member
  join household_member m on m.district_id = :district_id and m.person_id = member.person_id
    and m.household_id <> member.household_id
    and (m.start_date is null or m.start_date <= :today) and (m.end_date is null or m.end_date >= :today)
  join change c on c.district_id = :district_id and c.household_id = m.household_id and c.kind = 'PREFERENCES'
    and c.revision < :revision
  join change_set s on s.district_id = :district_id and s.revision = c.revision and s.batch_run_id = :batch_run_id
  group by member.person_id
),
fresh as (
  select person_id, bit_or(member.reasons) & ~coalesce(min(before.reasons), 0) as reasons
  from member
  left join before using (person_id)
  group by person_id
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
update batch_cell cell set people_affected = cell.people_affected + by_reason.people
from by_reason
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = 'HOUSEHOLD_PHONE' and cell.reason = by_reason.reason
