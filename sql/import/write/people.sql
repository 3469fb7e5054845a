-- Writes the people who are new or renamed.
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with wanted as (
  select distinct s.role, s.source_id, s.first_name, s.last_name,
    case when p.person_id is null then 'added'
      when (p.first_name, p.last_name) is distinct from (s.first_name, s.last_name) then 'changed'
      else 'unchanged' end as outcome
  from import_person s
  left join person p on p.district_id = :district_id and p.source_id = s.source_id
),
written as (
  insert into person (district_id, source_id, first_name, last_name)
  select :district_id, source_id, first_name, last_name
  from wanted where outcome <> 'unchanged' order by source_id
  on conflict (district_id, source_id) do update
    set first_name = excluded.first_name, last_name = excluded.last_name
    where (person.first_name, person.last_name) is distinct from (excluded.first_name, excluded.last_name)
  returning person_id
),
logged as (
  insert into import_change (kind, subject, subject_id) select 'PERSON', 'PERSON', person_id from written
)
select case role when 'student' then 'students' when 'contact' then 'contacts' else 'staff' end as kind,
  count(*) filter (where outcome = 'added') as added, count(*) filter (where outcome = 'changed') as changed,
  count(*) filter (where outcome = 'unchanged') as unchanged
from wanted
group by role
order by array_position('{student,contact,staff}'::text[], role)
