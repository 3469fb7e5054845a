-- Adds the members that the households lack. A membership that is on record stays as it is, even if it has ended
-- (D30).
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with wanted as (
  select h.household_id, r.person_id,
    exists (
      select from household_member m
      where m.district_id = :district_id and m.household_id = h.household_id and m.person_id = r.person_id) as known
  from import_resident r
  join import_household h on h.root = r.root
),
written as (
  insert into household_member (district_id, household_id, person_id)
  select :district_id, household_id, person_id from wanted where not known order by household_id, person_id
  returning household_id, person_id
),
logged as (
  insert into import_change (kind, subject, subject_id)
  select 'MEMBERSHIP', subject, subject_id
  from written cross join lateral (values ('PERSON', person_id), ('HOUSEHOLD', household_id)) tied (subject, subject_id)
)
select 'household members' as kind, count(*) filter (where not known) as added, 0::bigint as changed,
  count(*) filter (where known) as unchanged
from wanted
