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
  'GUARDIAN:b8ad090026a655b9:' || :district_id::bigint || ':' || :request::bigint as request_tag
from (select concat('{"data":', concat('{"person":', coalesce((select concat('{"firstName":', coalesce(to_json(t1."first_name")::text, 'null'), ',"lastName":', coalesce(to_json(t1."last_name")::text, 'null'), ',"preferences":', coalesce((select coalesce('[' || string_agg(concat('{"contactPoint":', coalesce('"' || t2."contact_point"::text || '"', 'null'), ',"method":', coalesce('"' || t2."method"::text || '"', 'null'), ',"value":', coalesce(to_json(t2."value")::text, 'null'), ',"on":', coalesce(to_json(t2."on")::text, 'null'), ',"chosen":', coalesce(to_json(t2."chosen")::text, 'null'), '}'), ',' order by t2.contact_point, t2.method) || ']', '[]') from (
select p.person_id, channel.contact_point, channel.method, v.value,
  case when s.reasons_on <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_on & r.mask <> 0)
  else '[]' end as "on",
  case when s.reasons_chosen <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_chosen & r.mask <> 0)
  else '[]' end as chosen
from person p
cross join (values
  ('HOME_PHONE'::contact_point_kind, 'VOICE'::method), ('HOME_PHONE', 'TEXT'),
  ('WORK_PHONE', 'VOICE'), ('WORK_PHONE', 'TEXT'),
  ('CELL_PHONE', 'VOICE'), ('CELL_PHONE', 'TEXT'),
  ('EMAIL', 'EMAIL'), ('SECONDARY_EMAIL', 'EMAIL')) as channel (contact_point, method)
left join contact_point v
  on v.district_id = p.district_id and v.person_id = p.person_id and v.kind = channel.contact_point
left join preference s
  on s.district_id = p.district_id and s.person_id = p.person_id
  and s.contact_point = channel.contact_point and s.method = channel.method
where p.district_id = :district_id
  and (false or p.person_id = (select person_id from viewer))
) as t2 where t2.person_id = t1.person_id), 'null'), ',"households":', coalesce((select case when count(*) > 6 then ('too_long:1:' || count(*) || ' ' || t1."id")::integer::text else coalesce('[' || string_agg(concat('{"household":', coalesce((select concat('{"name":', coalesce(to_json(t4."name")::text, 'null'), ',"phone":', coalesce(to_json(t4."phone")::text, 'null'), ',"preferences":', coalesce((select coalesce('[' || string_agg(concat('{"method":', coalesce('"' || t5."method"::text || '"', 'null'), ',"on":', coalesce(to_json(t5."on")::text, 'null'), '}'), ',' order by t5.method) || ']', '[]') from (
select h.household_id, 'HOUSEHOLD_PHONE'::contact_point_kind as contact_point, channel.method, h.phone as value,
  case when s.reasons_on <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_on & r.mask <> 0)
  else '[]' end as "on",
  case when s.reasons_chosen <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_chosen & r.mask <> 0)
  else '[]' end as chosen
from household h
cross join (values ('VOICE'::method), ('TEXT')) as channel (method)
left join household_preference s
  on s.district_id = h.district_id and s.household_id = h.household_id
  and s.contact_point = 'HOUSEHOLD_PHONE' and s.method = channel.method
where h.district_id = :district_id
  and (false
    or h.household_id in (select household_id from viewer_household where own))
) as t5 where t5.household_id = t4.household_id), 'null'), ',"members":', coalesce((select case when count(*) > 16 then ('too_long:0:' || count(*) || ' ' || t4."id")::integer::text else coalesce('[' || string_agg(concat('{"person":', coalesce((select concat('{"firstName":', coalesce(to_json(t7."first_name")::text, 'null'), ',"lastName":', coalesce(to_json(t7."last_name")::text, 'null'), ',"preferences":', coalesce((select coalesce('[' || string_agg(concat('{"contactPoint":', coalesce('"' || t8."contact_point"::text || '"', 'null'), ',"method":', coalesce('"' || t8."method"::text || '"', 'null'), ',"value":', coalesce(to_json(t8."value")::text, 'null'), ',"on":', coalesce(to_json(t8."on")::text, 'null'), '}'), ',' order by t8.contact_point, t8.method) || ']', '[]') from (
select p.person_id, channel.contact_point, channel.method, v.value,
  case when s.reasons_on <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_on & r.mask <> 0)
  else '[]' end as "on",
  case when s.reasons_chosen <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_chosen & r.mask <> 0)
  else '[]' end as chosen
from person p
cross join (values
  ('HOME_PHONE'::contact_point_kind, 'VOICE'::method), ('HOME_PHONE', 'TEXT'),
  ('WORK_PHONE', 'VOICE'), ('WORK_PHONE', 'TEXT'),
  ('CELL_PHONE', 'VOICE'), ('CELL_PHONE', 'TEXT'),
  ('EMAIL', 'EMAIL'), ('SECONDARY_EMAIL', 'EMAIL')) as channel (contact_point, method)
left join contact_point v
  on v.district_id = p.district_id and v.person_id = p.person_id and v.kind = channel.contact_point
left join preference s
  on s.district_id = p.district_id and s.person_id = p.person_id
  and s.contact_point = channel.contact_point and s.method = channel.method
where p.district_id = :district_id
  and (false or p.person_id = (select person_id from viewer))
) as t8 where t8.person_id = t7.person_id), 'null'), '}') from (
select p.person_id, 'person_' || p.person_id as id, p.source_id, p.first_name, p.last_name,
  exists (
    select from enrollment e
    where e.district_id = p.district_id and e.person_id = p.person_id
      and active_on(e.start_date, e.end_date, :today)
    offset 0)
  or exists (
    select from district_assignment a
    where a.district_id = p.district_id and a.person_id = p.person_id
      and (false or a.person_id = (select person_id from viewer))
      and active_on(a.start_date, a.end_date, :today)
    offset 0)
  or exists (
    select from relationship r
    where r.district_id = p.district_id and r.contact_id = p.person_id
      and (false
        or r.contact_id = (select person_id from viewer) and r.student_id in (select person_id from viewer_student))
      and active_on(r.start_date, r.end_date, :today)
    offset 0) as active
from person p
where p.district_id = :district_id
  and (false
    -- As an array, and not as conditions: those would read all people of the district.
    or p.person_id = any (array(select (select person_id from viewer) union all select person_id from viewer_student)))
) as t7 where t7.person_id = t6.person_id), 'null'), '}'), ',' order by t6.household_member_id) || ']', '[]') end from (select t6.* from (
select m.household_member_id, m.household_id, m.person_id,
  active_on(m.start_date, m.end_date, :today) as active
from household_member m
where m.district_id = :district_id
  and (false
    or (m.person_id = (select person_id from viewer) or m.person_id in (select person_id from viewer_student))
      and active_on(m.start_date, m.end_date, :today))
) as t6 where t6.household_id = t4.household_id and (t6.active or not :f6__active_only::boolean) limit 17) as t6), 'null'), '}') from (
select h.household_id, 'household_' || h.household_id as id, h.name,
  case when false
    or h.household_id in (select household_id from viewer_household where own) then h.phone end as phone
from household h
where h.district_id = :district_id
  and (false or h.household_id = any (array(select household_id from viewer_household)))
) as t4 where t4.household_id = t3.household_id), 'null'), '}'), ',' order by t3.household_member_id) || ']', '[]') end from (select t3.* from (
select m.household_member_id, m.household_id, m.person_id,
  active_on(m.start_date, m.end_date, :today) as active
from household_member m
where m.district_id = :district_id
  and (false
    or (m.person_id = (select person_id from viewer) or m.person_id in (select person_id from viewer_student))
      and active_on(m.start_date, m.end_date, :today))
) as t3 where t3.person_id = t1.person_id and (t3.active or not :f3__active_only::boolean) limit 7) as t3), 'null'), '}') from (
select p.person_id, 'person_' || p.person_id as id, p.source_id, p.first_name, p.last_name,
  exists (
    select from enrollment e
    where e.district_id = p.district_id and e.person_id = p.person_id
      and active_on(e.start_date, e.end_date, :today)
    offset 0)
  or exists (
    select from district_assignment a
    where a.district_id = p.district_id and a.person_id = p.person_id
      and (false or a.person_id = (select person_id from viewer))
      and active_on(a.start_date, a.end_date, :today)
    offset 0)
  or exists (
    select from relationship r
    where r.district_id = p.district_id and r.contact_id = p.person_id
      and (false
        or r.contact_id = (select person_id from viewer) and r.student_id in (select person_id from viewer_student))
      and active_on(r.start_date, r.end_date, :today)
    offset 0) as active
from person p
where p.district_id = :district_id
  and (false
    -- As an array, and not as conditions: those would read all people of the district.
    or p.person_id = any (array(select (select person_id from viewer) union all select person_id from viewer_student)))
) as t1 where t1.person_id = :f1__id::bigint), 'null'), '}'), '}') as answer offset 0) as result
