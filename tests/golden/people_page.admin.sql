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
  'ADMIN:46302577088d6339:' || :district_id::bigint || ':' || :request::bigint as request_tag
from (select concat('{"data":', concat('{"people":', (select concat('{"edges":', coalesce('[' || string_agg(concat('{"cursor":', coalesce('"' || translate(encode(convert_to(json_build_array(t2."last_name", t2."first_name", t2."person_id")::text, 'UTF8'), 'base64'), E'\n', '') || '"', 'null'), ',"node":', concat('{"id":', coalesce(to_json(t2."id")::text, 'null'), ',"firstName":', coalesce(to_json(t2."first_name")::text, 'null'), ',"lastName":', coalesce(to_json(t2."last_name")::text, 'null'), '}'), '}'), ',' order by t2.page_position) filter (where t2.page_position <= :f1__first::bigint) || ']', '[]'), ',"pageInfo":', concat('{"hasNextPage":', (count(*) > :f1__first::bigint)::text, ',"endCursor":', coalesce('"' || max(translate(encode(convert_to(json_build_array(t2."last_name", t2."first_name", t2."person_id")::text, 'UTF8'), 'base64'), E'\n', '')) filter (where t2.page_position = :f1__first::bigint or t2.page_position < :f1__first::bigint and t2.page_last) || '"', 'null'), '}'), '}') from (select t1.*, row_number() over place as page_position, lead(false, 1, true) over place as page_last from (select t1.* from (
select t1.* from (
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
) as t1 where (true or (starts_with(lower(t1.last_name), :f1__word_begin::text) or starts_with(lower(t1.first_name), :f1__word_begin::text)) and (cardinality(:f1__search::text[]) < 2 or not exists (select from unnest(:f1__search::text[]) as word where not (starts_with(lower(t1.last_name), word) or starts_with(lower(t1.first_name), word)))) and case :f1__audience when 'STUDENTS' then exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as r where r.person_id = t1.person_id and r.active offset 0) when 'STUDENT_CONTACTS' then exists (select from (
select r.relationship_id, r.student_id, r.contact_id, r.kind, r.guardian, r.messenger, r.no_contact, r.start_date, r.end_date,
  active_on(r.start_date, r.end_date, :today) as active
from relationship r
where r.district_id = :district_id
  and (true
    or r.contact_id = (select person_id from viewer) and r.student_id in (select person_id from viewer_student)
      and active_on(r.start_date, r.end_date, :today))
) as rel where rel.contact_id = t1.person_id and rel.messenger and not rel.no_contact and active_on(rel.start_date, rel.end_date, :today) and exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as e where e.person_id = rel.student_id and e.active offset 0) offset 0) else exists (select from (
select a.district_assignment_id, a.person_id, a.school_id, a.title, a.start_date, a.end_date,
  active_on(a.start_date, a.end_date, :today) as active
from district_assignment a
where a.district_id = :district_id
  and (true or a.person_id = (select person_id from viewer))
) as r where r.person_id = t1.person_id and r.active offset 0) end) and (not true or t1.person_id = any((
with recursive last (name) as ((select lower(r.last_name) from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as r where lower(r.last_name) ~>=~ (select :f1__word_begin::text) and lower(r.last_name) ~<~ (select :f1__word_end::text) order by lower(r.last_name) using ~<~ limit 1)
union all select (select lower(r.last_name) from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as r where lower(r.last_name) ~>~ before.name and lower(r.last_name) ~<~ (select :f1__word_end::text) order by lower(r.last_name) using ~<~ limit 1) from last before where before.name is not null),
first (name) as ((select lower(r.first_name) from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as r where lower(r.first_name) ~>=~ (select :f1__word_begin::text) and lower(r.first_name) ~<~ (select :f1__word_end::text) order by lower(r.first_name) using ~<~ limit 1)
union all select (select lower(r.first_name) from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as r where lower(r.first_name) ~>~ before.name and lower(r.first_name) ~<~ (select :f1__word_end::text) order by lower(r.first_name) using ~<~ limit 1) from first before where before.name is not null),
walked as materialized (select who.person_id from (select who.person_id, who.last_name, who.first_name from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as who where (who.last_name, who.first_name, who.person_id) > (:f1__after_0::text, :f1__after_1::text, :f1__after_2::bigint) order by who.last_name, who.first_name, who.person_id limit 20000) as who where (starts_with(lower(who.last_name), :f1__word_begin::text) or starts_with(lower(who.first_name), :f1__word_begin::text)) and (cardinality(:f1__search::text[]) < 2 or not exists (select from unnest(:f1__search::text[]) as word where not (starts_with(lower(who.last_name), word) or starts_with(lower(who.first_name), word)))) and case :f1__audience when 'STUDENTS' then exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as r where r.person_id = who.person_id and r.active offset 0) when 'STUDENT_CONTACTS' then exists (select from (
select r.relationship_id, r.student_id, r.contact_id, r.kind, r.guardian, r.messenger, r.no_contact, r.start_date, r.end_date,
  active_on(r.start_date, r.end_date, :today) as active
from relationship r
where r.district_id = :district_id
  and (true
    or r.contact_id = (select person_id from viewer) and r.student_id in (select person_id from viewer_student)
      and active_on(r.start_date, r.end_date, :today))
) as rel where rel.contact_id = who.person_id and rel.messenger and not rel.no_contact and active_on(rel.start_date, rel.end_date, :today) and exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as e where e.person_id = rel.student_id and e.active offset 0) offset 0) else exists (select from (
select a.district_assignment_id, a.person_id, a.school_id, a.title, a.start_date, a.end_date,
  active_on(a.start_date, a.end_date, :today) as active
from district_assignment a
where a.district_id = :district_id
  and (true or a.person_id = (select person_id from viewer))
) as r where r.person_id = who.person_id and r.active offset 0) end order by who.last_name, who.first_name, who.person_id limit :f1__first::bigint + 1)
select case when (select count(*) from ((select from last cross join lateral (select from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as who where lower(who.last_name) = last.name limit 500) who) union all (select from first cross join lateral (select from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as who where lower(who.first_name) = first.name limit 500) who) limit 500) n) < 500 then array(select who.person_id from (
select who.* from last cross join lateral (select who.person_id, who.last_name, who.first_name from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as who where lower(who.last_name) = last.name and (cardinality(:f1__search::text[]) < 2 or not exists (select from unnest(:f1__search::text[]) as word where not (starts_with(lower(who.last_name), word) or starts_with(lower(who.first_name), word)))) and (who.last_name, who.first_name, who.person_id) > (:f1__after_0::text, :f1__after_1::text, :f1__after_2::bigint) and case :f1__audience when 'STUDENTS' then exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as r where r.person_id = who.person_id and r.active offset 0) when 'STUDENT_CONTACTS' then exists (select from (
select r.relationship_id, r.student_id, r.contact_id, r.kind, r.guardian, r.messenger, r.no_contact, r.start_date, r.end_date,
  active_on(r.start_date, r.end_date, :today) as active
from relationship r
where r.district_id = :district_id
  and (true
    or r.contact_id = (select person_id from viewer) and r.student_id in (select person_id from viewer_student)
      and active_on(r.start_date, r.end_date, :today))
) as rel where rel.contact_id = who.person_id and rel.messenger and not rel.no_contact and active_on(rel.start_date, rel.end_date, :today) and exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as e where e.person_id = rel.student_id and e.active offset 0) offset 0) else exists (select from (
select a.district_assignment_id, a.person_id, a.school_id, a.title, a.start_date, a.end_date,
  active_on(a.start_date, a.end_date, :today) as active
from district_assignment a
where a.district_id = :district_id
  and (true or a.person_id = (select person_id from viewer))
) as r where r.person_id = who.person_id and r.active offset 0) end order by who.last_name, who.first_name, who.person_id limit :f1__first::bigint + 1) who where last.name is not null
union
select who.* from first cross join lateral (select who.person_id, who.last_name, who.first_name from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as who where lower(who.first_name) = first.name and (cardinality(:f1__search::text[]) < 2 or not exists (select from unnest(:f1__search::text[]) as word where not (starts_with(lower(who.last_name), word) or starts_with(lower(who.first_name), word)))) and (who.last_name, who.first_name, who.person_id) > (:f1__after_0::text, :f1__after_1::text, :f1__after_2::bigint) and case :f1__audience when 'STUDENTS' then exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as r where r.person_id = who.person_id and r.active offset 0) when 'STUDENT_CONTACTS' then exists (select from (
select r.relationship_id, r.student_id, r.contact_id, r.kind, r.guardian, r.messenger, r.no_contact, r.start_date, r.end_date,
  active_on(r.start_date, r.end_date, :today) as active
from relationship r
where r.district_id = :district_id
  and (true
    or r.contact_id = (select person_id from viewer) and r.student_id in (select person_id from viewer_student)
      and active_on(r.start_date, r.end_date, :today))
) as rel where rel.contact_id = who.person_id and rel.messenger and not rel.no_contact and active_on(rel.start_date, rel.end_date, :today) and exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as e where e.person_id = rel.student_id and e.active offset 0) offset 0) else exists (select from (
select a.district_assignment_id, a.person_id, a.school_id, a.title, a.start_date, a.end_date,
  active_on(a.start_date, a.end_date, :today) as active
from district_assignment a
where a.district_id = :district_id
  and (true or a.person_id = (select person_id from viewer))
) as r where r.person_id = who.person_id and r.active offset 0) end order by who.last_name, who.first_name, who.person_id limit :f1__first::bigint + 1) who where first.name is not null) who order by who.last_name, who.first_name, who.person_id limit :f1__first::bigint + 1)
when (select count(*) from walked) > :f1__first::bigint or not exists (select from (select who.person_id, who.last_name, who.first_name from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as who where (who.last_name, who.first_name, who.person_id) > (:f1__after_0::text, :f1__after_1::text, :f1__after_2::bigint) order by who.last_name, who.first_name, who.person_id limit 1 offset 20000) as beyond) then array(select person_id from walked)
else array(select who.person_id from (
select who.* from last cross join lateral (select who.person_id, who.last_name, who.first_name from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as who where lower(who.last_name) = last.name and (cardinality(:f1__search::text[]) < 2 or not exists (select from unnest(:f1__search::text[]) as word where not (starts_with(lower(who.last_name), word) or starts_with(lower(who.first_name), word)))) and (who.last_name, who.first_name, who.person_id) > (:f1__after_0::text, :f1__after_1::text, :f1__after_2::bigint) and case :f1__audience when 'STUDENTS' then exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as r where r.person_id = who.person_id and r.active offset 0) when 'STUDENT_CONTACTS' then exists (select from (
select r.relationship_id, r.student_id, r.contact_id, r.kind, r.guardian, r.messenger, r.no_contact, r.start_date, r.end_date,
  active_on(r.start_date, r.end_date, :today) as active
from relationship r
where r.district_id = :district_id
  and (true
    or r.contact_id = (select person_id from viewer) and r.student_id in (select person_id from viewer_student)
      and active_on(r.start_date, r.end_date, :today))
) as rel where rel.contact_id = who.person_id and rel.messenger and not rel.no_contact and active_on(rel.start_date, rel.end_date, :today) and exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as e where e.person_id = rel.student_id and e.active offset 0) offset 0) else exists (select from (
select a.district_assignment_id, a.person_id, a.school_id, a.title, a.start_date, a.end_date,
  active_on(a.start_date, a.end_date, :today) as active
from district_assignment a
where a.district_id = :district_id
  and (true or a.person_id = (select person_id from viewer))
) as r where r.person_id = who.person_id and r.active offset 0) end order by who.last_name, who.first_name, who.person_id limit :f1__first::bigint + 1) who where last.name is not null
union
select who.* from first cross join lateral (select who.person_id, who.last_name, who.first_name from (select person_id, source_id, last_name, first_name from person where district_id = :district_id and true) as who where lower(who.first_name) = first.name and (cardinality(:f1__search::text[]) < 2 or not exists (select from unnest(:f1__search::text[]) as word where not (starts_with(lower(who.last_name), word) or starts_with(lower(who.first_name), word)))) and (who.last_name, who.first_name, who.person_id) > (:f1__after_0::text, :f1__after_1::text, :f1__after_2::bigint) and case :f1__audience when 'STUDENTS' then exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as r where r.person_id = who.person_id and r.active offset 0) when 'STUDENT_CONTACTS' then exists (select from (
select r.relationship_id, r.student_id, r.contact_id, r.kind, r.guardian, r.messenger, r.no_contact, r.start_date, r.end_date,
  active_on(r.start_date, r.end_date, :today) as active
from relationship r
where r.district_id = :district_id
  and (true
    or r.contact_id = (select person_id from viewer) and r.student_id in (select person_id from viewer_student)
      and active_on(r.start_date, r.end_date, :today))
) as rel where rel.contact_id = who.person_id and rel.messenger and not rel.no_contact and active_on(rel.start_date, rel.end_date, :today) and exists (select from (
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (true
    or e.person_id = (select person_id from viewer)
    or e.person_id in (select person_id from viewer_student))
) as e where e.person_id = rel.student_id and e.active offset 0) offset 0) else exists (select from (
select a.district_assignment_id, a.person_id, a.school_id, a.title, a.start_date, a.end_date,
  active_on(a.start_date, a.end_date, :today) as active
from district_assignment a
where a.district_id = :district_id
  and (true or a.person_id = (select person_id from viewer))
) as r where r.person_id = who.person_id and r.active offset 0) end order by who.last_name, who.first_name, who.person_id limit :f1__first::bigint + 1) who where first.name is not null) who order by who.last_name, who.first_name, who.person_id limit :f1__first::bigint + 1) end)::bigint[])) and (t1."last_name", t1."first_name", t1."person_id") > (:f1__after_0::text, :f1__after_1::text, :f1__after_2::bigint) order by t1."last_name", t1."first_name", t1."person_id" limit 101
) as t1 limit :f1__first::bigint + 1) as t1 window place as (order by t1."last_name", t1."first_name", t1."person_id")) as t2 having true), '}'), '}') as answer offset 0) as result
