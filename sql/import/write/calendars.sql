-- Writes the school years of the sessions, and those that enrollments need. Dates that the files lack stay as they
-- are.
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with year as (
  select i.id as school_id, given.school_year, min(given.start_date) as start_date, max(given.end_date) as end_date
  from (
    select school, school_year, start_date, end_date from import_session
    union all
    select school, school_year, null, null from import_enrollment
  ) given
  join import_identity i on i.token = given.school
  group by i.id, given.school_year
),
wanted as (
  select y.*,
    case when c.school_id is null then 'added'
      when (coalesce(y.start_date, c.start_date), coalesce(y.end_date, c.end_date))
        is distinct from (c.start_date, c.end_date) then 'changed'
      else 'unchanged' end as outcome
  from year y
  left join calendar c
    on c.district_id = :district_id and c.school_id = y.school_id and c.school_year = y.school_year
),
written as (
  insert into calendar (district_id, school_id, school_year, start_date, end_date)
  select :district_id, school_id, school_year, start_date, end_date
  from wanted where outcome <> 'unchanged' order by school_id, school_year
  on conflict (district_id, school_id, school_year) do update
    set start_date = coalesce(excluded.start_date, calendar.start_date),
      end_date = coalesce(excluded.end_date, calendar.end_date)
  returning school_id
),
logged as (
  insert into import_change (kind, subject, subject_id) select 'SCHOOL', 'SCHOOL', school_id from written
)
select 'school years' as kind, count(*) filter (where outcome = 'added') as added,
  count(*) filter (where outcome = 'changed') as changed, count(*) filter (where outcome = 'unchanged') as unchanged
from wanted
