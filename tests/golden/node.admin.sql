with viewer as not materialized (
  select person_id from person where district_id = :district_id and source_id = :viewer_source_id
),
viewer_student as not materialized (
  select r.student_id as person_id
  from relationship r
  where r.district_id = :district_id
    and r.contact_id = (select person_id from viewer)
    and 'ADMIN' in ('GUARDIAN', 'STUDENT')
    and active_on(r.start_date, r.end_date, :today)
  group by r.student_id
  having not bool_or(r.no_contact)
),
viewer_household as not materialized (
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
  'ADMIN:878533164b54556c:' || :district_id::bigint || ':' || :request::bigint as request_tag
from (select concat('{"data":', concat('{"node":', coalesce((select concat('{"__typename":', '"Person"', ',"id":', coalesce(to_json(t1."id")::text, 'null'), ',"firstName":', coalesce(to_json(t1."first_name")::text, 'null'), '}') from (
select p.person_id, 'person_' || p.person_id as id, p.source_id, p.first_name, p.last_name,
  exists (
    select from enrollment e
    where e.district_id = p.district_id and e.person_id = p.person_id
      and active_on(e.start_date, e.end_date, :today)
    offset 0)
  or exists (
    select from district_assignment a
    where a.district_id = p.district_id and a.person_id = p.person_id
      and (true or a.person_id = (select person_id from viewer))
      and active_on(a.start_date, a.end_date, :today)
    offset 0)
  or exists (
    select from relationship r
    where r.district_id = p.district_id and r.contact_id = p.person_id
      and (true
        or r.contact_id = (select person_id from viewer) and r.student_id in (select person_id from viewer_student))
      and active_on(r.start_date, r.end_date, :today)
    offset 0) as active
from person p
where p.district_id = :district_id
  and (true
    -- As an array, and not as conditions: those would read all people of the district.
    or p.person_id = any (array(select (select person_id from viewer) union all select person_id from viewer_student)))
) as t1 where t1.person_id = :f1__person_id::bigint), 'null'), '}'), '}') as answer offset 0) as result
