-- Writes the enrollments that are new or different. An enrollment is identified by its student, school and entry
-- date.
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with given as (
  select distinct s.id as person_id, o.id as school_id, e.school_year, e.grade, e.start_date, e.end_date
  from import_enrollment e
  join import_identity s on s.token = e.student
  join import_identity o on o.token = e.school
),
wanted as (
  select g.*, e.enrollment_id,
    case when e.enrollment_id is null then 'added'
      when (e.school_year, e.grade, e.end_date) is distinct from (g.school_year, g.grade, g.end_date) then 'changed'
      else 'unchanged' end as outcome
  from given g
  left join lateral (
    select * from enrollment e
    where e.district_id = :district_id and e.person_id = g.person_id and e.school_id = g.school_id
      and e.start_date is not distinct from g.start_date
    order by e.enrollment_id desc
    limit 1
  ) e on true
),
added as (
  insert into enrollment (district_id, person_id, school_id, school_year, grade, start_date, end_date)
  select :district_id, person_id, school_id, school_year, grade, start_date, end_date
  from wanted where outcome = 'added' order by person_id, start_date
),
updated as (
  update enrollment e set school_year = w.school_year, grade = w.grade, end_date = w.end_date
  from wanted w
  where w.outcome = 'changed' and e.district_id = :district_id and e.enrollment_id = w.enrollment_id
),
logged as (
  insert into import_change (kind, subject, subject_id)
  select 'ENROLLMENT', 'PERSON', person_id from wanted where outcome <> 'unchanged'
)
select 'enrollments' as kind, count(*) filter (where outcome = 'added') as added,
  count(*) filter (where outcome = 'changed') as changed, count(*) filter (where outcome = 'unchanged') as unchanged
from wanted
