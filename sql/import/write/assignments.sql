-- Writes the district assignments that are new or different. An assignment is identified by everything except its
-- end.
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with given as (
  select distinct s.id as person_id, o.id as school_id, a.title, a.start_date, a.end_date
  from import_assignment a
  join import_identity s on s.token = a.staff
  join import_identity o on o.token = a.organization
),
wanted as (
  select g.*, a.district_assignment_id,
    case when a.district_assignment_id is null then 'added'
      when a.end_date is distinct from g.end_date then 'changed' else 'unchanged' end as outcome
  from given g
  left join lateral (
    select * from district_assignment a
    where a.district_id = :district_id and a.person_id = g.person_id
      and (a.school_id, a.title, a.start_date) is not distinct from (g.school_id, g.title, g.start_date)
    order by a.district_assignment_id desc
    limit 1
  ) a on true
),
added as (
  insert into district_assignment (district_id, person_id, school_id, title, start_date, end_date)
  select :district_id, person_id, school_id, title, start_date, end_date
  from wanted where outcome = 'added' order by person_id, start_date
),
updated as (
  update district_assignment a set end_date = w.end_date
  from wanted w
  where w.outcome = 'changed' and a.district_id = :district_id
    and a.district_assignment_id = w.district_assignment_id
),
logged as (
  insert into import_change (kind, subject, subject_id)
  select 'ASSIGNMENT', 'PERSON', person_id from wanted where outcome <> 'unchanged'
)
select 'assignments' as kind, count(*) filter (where outcome = 'added') as added,
  count(*) filter (where outcome = 'changed') as changed, count(*) filter (where outcome = 'unchanged') as unchanged
from wanted
