with viewer as materialized (
  select person_id from person where district_id = :district_id and source_id = :viewer_source_id
),
viewer_student as materialized (
  select r.student_id as person_id
  from relationship r
  where r.district_id = :district_id
    and r.contact_id = (select person_id from viewer)
    and 'GUARDIAN' in ('GUARDIAN', 'STUDENT')
    and active_on(r.start_date, r.end_date, :today)
  group by r.student_id
  having not bool_or(r.no_contact)
),
viewer_household as materialized (
  select m.household_id, bool_or(m.person_id = (select person_id from viewer)) as own
  from household_member m
  where m.district_id = :district_id
    -- As an array, and not as two conditions: those would read all members of the district.
    and m.person_id = any (array(select person_id from viewer union all select person_id from viewer_student))
    and active_on(m.start_date, m.end_date, :today)
  group by m.household_id
),
reason as materialized (
  select code, bit, 1::bigint << bit as mask from contact_reason where district_id = :district_id order by bit
)
select case when pg_column_size(result.answer) <= :answer_bytes::bigint then convert_to(result.answer, 'UTF8') end as answer,
  pg_column_size(result.answer) as bytes,
  'GUARDIAN:0edc32894d04c594:' || :district_id::bigint || ':' || :request::bigint as request_tag
from (select concat('{"data":', concat('{"people":', 'null', '}'), '}') as answer offset 0) as result
