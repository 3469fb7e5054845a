-- BatchOptions: how many people a mode and scope select, and how many of them have each contact point on record;
-- for the household phone, how many of their households do. {population} is the mode's SELECT of person_id.
-- Parameters: district_id, today, viewer_role
-- Columns: population, reachable (an array in the order of contact_point_kind)
with selected as materialized (
  select distinct p.person_id from ({population}) people
  join person p on p.district_id = :district_id and p.person_id = people.person_id
  where :viewer_role = 'ADMIN'
),
counted as (
  select c.kind, count(*) as reachable
  from selected
  join contact_point c on c.district_id = :district_id and c.person_id = selected.person_id
  group by c.kind
  union all
  select 'HOUSEHOLD_PHONE', count(distinct h.household_id)
  from selected
  join household_member m on m.district_id = :district_id and m.person_id = selected.person_id
    and active_on(m.start_date, m.end_date, :today)
  join household h on h.district_id = m.district_id and h.household_id = m.household_id and h.phone is not null
)
select (select count(*) from selected) as population,
  array(
    select coalesce(c.reachable, 0)
    from unnest(enum_range(null::contact_point_kind)) as k (kind)
    left join counted c on c.kind = k.kind
    order by k.kind) as reachable
