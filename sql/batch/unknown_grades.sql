-- All grades that the district's enrollments have, whenever those hold, and those of the grades named that are none of
-- these (D32). {key} is what the grade of a row `g` is compared by.
-- Parameters: district_id, grades
-- Columns: position (of a grade named, from 0; null for one that there is), grade
with keyed as (
  select g.position, g.grade, {key} as key
  from (
    select null::bigint as position, e.grade
    from (select distinct grade from enrollment where district_id = :district_id) e
    union all
    select asked.position - 1, asked.grade
    from unnest(:grades::text[]) with ordinality as asked (grade, position)
  ) g
)
select position, grade
from keyed named
where position is null
  or not exists (select from keyed there where there.position is null and there.key = named.key)
order by position, grade
