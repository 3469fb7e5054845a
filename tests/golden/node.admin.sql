with viewer as materialized (
  select person_id from person where district_id = :district_id and source_id = :viewer_source_id
),
viewer_student as materialized (
  select r.student_id as person_id
  from relationship r
  where r.district_id = :district_id
    and r.contact_id = (select person_id from viewer)
    and 'ADMIN' in ('GUARDIAN', 'STUDENT')
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
select case when pg_column_size(result.answer) <= :answer_bytes::bigint then result.answer end as answer, pg_column_size(result.answer) as bytes,
  'ADMIN:d721fa01957b3b2c:' || :district_id::bigint || ':' || :request::bigint as request_tag
from (select json_build_object('data', json_build_object('node', coalesce((select json_build_object('__typename', 'Person'::text, 'id', t1."id", 'firstName', t1."first_name") from (
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
) as t1 where t1.person_id = :f1__person_id::bigint), (select json_build_object('__typename', 'Household'::text, 'id', t2."id", 'name', t2."name") from (
select h.household_id, 'household_' || h.household_id as id, h.name,
  case when true
    or h.household_id in (select household_id from viewer_household where own) then h.phone end as phone
from household h
where h.district_id = :district_id
  and (true or h.household_id = any (array(select household_id from viewer_household)))
) as t2 where t2.household_id = :f2__household_id::bigint), (select json_build_object('__typename', 'School'::text, 'id', t3."id") from (
select s.school_id, 'school_' || s.school_id as id, s.name, s.source_id, s.portal_contact_information
from school s
where s.district_id = :district_id
) as t3 where t3.school_id = :f3__school_id::bigint), (select json_build_object('__typename', 'BatchRun'::text, 'id', t4."id") from (
select b.batch_run_id, 'run_' || b.batch_run_id as id, b.mode, b.status, b.dry_run, b.keep_chosen,
  b.requested_by, b.requested_at, b.planned_at, b.finished_at, b.population, to_json(b.errors) as errors, b.done, b.total,
  (
    select other.batch_run_id
    from batch_run other
    where b.status = 'QUEUED' and not b.plan_only
      and other.district_id = b.district_id and other.batch_run_id <> b.batch_run_id and not other.plan_only
      and is_unfinished(other.status)
      and (other.status <> 'QUEUED' or (other.queued_at, other.batch_run_id) < (b.queued_at, b.batch_run_id))
    order by other.status = 'QUEUED' desc, other.queued_at desc, other.batch_run_id desc
    limit 1
  ) as queued_behind_id,
  b.reverts_run_id as reverts_id,
  (
    select max(revert.batch_run_id) from batch_run revert
    where revert.district_id = b.district_id and revert.reverts_run_id = b.batch_run_id
  ) as reverted_by_id,
  case when b.reverts_run_id is not null then (
    select coalesce(sum(cell.updated), 0)::bigint from batch_cell cell
    where cell.district_id = b.district_id and cell.batch_run_id = b.batch_run_id
  ) end as restored,
  case when b.reverts_run_id is not null then (
    select coalesce(sum(cell.left_alone), 0)::bigint from batch_cell cell
    where cell.district_id = b.district_id and cell.batch_run_id = b.batch_run_id
  ) end as left_alone
from batch_run b
where b.district_id = :district_id and 'ADMIN' = 'ADMIN'
) as t4 where t4.batch_run_id = :f4__run_id::bigint), (select json_build_object('__typename', 'SavedFilter'::text, 'id', t5."id") from (
select f.saved_filter_id, 'filter_' || f.saved_filter_id as id, f.name, f.kind, f.criteria
from saved_filter f
where f.district_id = :district_id and 'ADMIN' = 'ADMIN'
) as t5 where t5.saved_filter_id = :f5__filter_id::bigint), (select json_build_object('__typename', 'OptOut'::text, 'id', t6."id") from (
select o.opt_out_id, 'optout_' || o.opt_out_id as id, o.address, o.method,
  case when o.reasons is not null then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where o.reasons & r.mask <> 0) end as reasons,
  o.source, o.evidence, o.recorded_at, o.lifted_at
from opt_out o
where o.district_id = :district_id
  and (true
    or o.address in (
      select c.value from contact_point c where c.district_id = :district_id and c.person_id = (select person_id from viewer))
    or o.address in (
      select h.phone from household h
      where h.district_id = :district_id
        and h.household_id in (select household_id from viewer_household where own)))
) as t6 where t6.opt_out_id = :f6__optout_id::bigint)))) as answer offset 0) as result
