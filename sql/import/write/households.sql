-- Writes the households that are new or renamed.
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with wanted as (
  select w.source_id, w.name,
    case when h.household_id is null then 'added' when h.name <> w.name then 'changed' else 'unchanged' end as outcome
  from import_household w
  left join household h on h.district_id = :district_id and h.source_id = w.source_id
),
written as (
  insert into household (district_id, source_id, name)
  select :district_id, source_id, name from wanted where outcome <> 'unchanged' order by source_id
  on conflict (district_id, source_id) do update set name = excluded.name
    where household.name is distinct from excluded.name
  returning household_id
),
logged as (
  insert into import_change (kind, subject, subject_id) select 'MEMBERSHIP', 'HOUSEHOLD', household_id from written
)
select 'households' as kind, count(*) filter (where outcome = 'added') as added,
  count(*) filter (where outcome = 'changed') as changed, count(*) filter (where outcome = 'unchanged') as unchanged
from wanted
