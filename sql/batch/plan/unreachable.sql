-- Lists the contact points, of those given, that nobody selected has on record (D15), and the household phone where no
-- household with a selected active member has one (D17). {population} is the mode's SELECT of person_id. The joins begin
-- with the people, so that the planner can stop at the first who has the contact point.
-- Parameters: district_id, today, contact_points
-- Columns: contact_point
select k.kind as contact_point
from unnest(:contact_points::contact_point_kind[]) as k (kind)
where case
  when k.kind = 'HOUSEHOLD_PHONE' then not exists (
    select from ({population}) selected
    join household_member m on m.district_id = :district_id and m.person_id = selected.person_id
      and active_on(m.start_date, m.end_date, :today)
    join household h on h.district_id = :district_id and h.household_id = m.household_id and h.phone is not null
    where k.kind = 'HOUSEHOLD_PHONE')
  else not exists (
    select from contact_point c
    where c.district_id = :district_id and c.kind = k.kind
      and c.person_id in (select selected.person_id from ({population}) selected))
  end
