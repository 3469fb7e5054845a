-- Writes the schools that are new or renamed.
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with wanted as (
  select distinct o.key as source_id, o.name,
    case when s.school_id is null then 'added' when s.name <> o.name then 'changed' else 'unchanged' end as outcome
  from import_organization o
  left join school s on s.district_id = :district_id and s.source_id = o.key
  where o.school
),
written as (
  insert into school (district_id, source_id, name)
  select :district_id, source_id, name from wanted where outcome <> 'unchanged' order by source_id
  on conflict (district_id, source_id) do update set name = excluded.name
    where school.name is distinct from excluded.name
  returning school_id
),
logged as (
  insert into import_change (kind, subject, subject_id) select 'SCHOOL', 'SCHOOL', school_id from written
)
select 'schools' as kind, count(*) filter (where outcome = 'added') as added,
  count(*) filter (where outcome = 'changed') as changed, count(*) filter (where outcome = 'unchanged') as unchanged
from wanted
