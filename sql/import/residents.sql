-- Numbers the students and the contacts who live with one: the students first, in the order of their ids.
-- Parameters: none
insert into import_resident (number, person_id, household_source_id)
select row_number() over (order by kind = 'contact', key collate "C") - 1, id,
  case when kind = 'student' then regexp_replace(key, '^student-', 'household-') end
from (
  select distinct i.kind, i.key, i.id
  from import_relationship r
  join import_identity i on i.token in (r.student, r.contact)
  where r.lives_with
) resident
