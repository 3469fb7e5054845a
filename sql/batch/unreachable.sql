-- Those of the contact points named that nobody selected has on record (D15); of a household phone, that no household
-- with a selected active member has (D17). {population} is the mode's SELECT of person_id.
-- Parameters: district_id, today, contact_points
-- Columns: contact_point
select k.kind as contact_point
from unnest(:contact_points::contact_point_kind[]) as k (kind)
where case
  when k.kind = 'HOUSEHOLD_PHONE' then not exists (
    select from household h
    join household_member m on m.district_id = h.district_id and m.household_id = h.household_id
      and (m.start_date is null or m.start_date <= :today) and (m.end_date is null or m.end_date >= :today)
    where h.district_id = :district_id and h.phone is not null and k.kind = 'HOUSEHOLD_PHONE'
      and m.person_id in (select selected.person_id from ({population}) selected))
  else not exists (
    select from contact_point c
    where c.district_id = :district_id and c.kind = k.kind
      and c.person_id in (select selected.person_id from ({population}) selected))
  end
