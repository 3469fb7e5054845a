-- Writes the household phones that are new or different (D1). A phone that the files lack stays.
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with wanted as (
  select w.household_id, w.phone,
    case when h.phone is null then 'added' when h.phone <> w.phone then 'changed' else 'unchanged' end as outcome
  from import_household w
  join household h on h.district_id = :district_id and h.household_id = w.household_id
  where w.phone is not null
),
written as (
  update household h set phone = w.phone
  from wanted w
  where h.district_id = :district_id and h.household_id = w.household_id and h.phone is distinct from w.phone
  returning h.household_id
),
logged as (
  insert into import_change (kind, subject, subject_id) select 'CONTACT_POINTS', 'HOUSEHOLD', household_id from written
)
select 'household phones' as kind, count(*) filter (where outcome = 'added') as added,
  count(*) filter (where outcome = 'changed') as changed, count(*) filter (where outcome = 'unchanged') as unchanged
from wanted
