-- Counts the people whom a run concerns: of a household phone all distinct active members of the households of {changed},
-- which gives household_id and the bits (D17); else as many as were updated.
-- Parameters: district_id, batch_run_id, today (null: the day that is noted with the run)
with run as materialized (
  select coalesce(:today::date, today) as today from batch_run where district_id = :district_id and batch_run_id = :batch_run_id
),
person_reasons as (
  select m.person_id, bit_or(changed.reasons) as reasons
  from ({changed}) changed
  cross join run
  join household_member m on m.district_id = :district_id and m.household_id = changed.household_id
    and (m.start_date is null or m.start_date <= run.today) and (m.end_date is null or m.end_date >= run.today)
  group by m.person_id
),
counted as (
  select reasons, count(*) as people from person_reasons group by reasons
),
by_reason as (
  select r.code as reason, sum(counted.people) as people
  from counted
  join contact_reason r on r.district_id = :district_id and counted.reasons & (1::bigint << r.bit) <> 0
  group by r.code
)
update batch_cell cell
set people_affected = case
  when cell.contact_point = 'HOUSEHOLD_PHONE'
    then coalesce((select people from by_reason where by_reason.reason = cell.reason), 0)
  else cell.updated end
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
