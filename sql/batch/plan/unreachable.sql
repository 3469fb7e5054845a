-- Lists the contact points, of those given, that nobody selected has on record (D15), and the household phone where no
-- household with a selected active member has one (D17). {population} is the mode's SELECT of person_id. It is read from
-- its beginning, and each person is looked up, until the first who has the contact point: each `offset 0` keeps the
-- planner from a join instead, which may read the people once for each row where the statistics are old.
-- Parameters: district_id, today, contact_points
-- Columns: contact_point
select k.kind as contact_point
from unnest(:contact_points::contact_point_kind[]) as k (kind)
where not exists (
  select from (select people.person_id from ({population}) people offset 0) selected
  where case
    when k.kind = 'HOUSEHOLD_PHONE' then exists (
      select from household_member m
      join household h on h.district_id = :district_id and h.household_id = m.household_id and h.phone is not null
      where m.district_id = :district_id and m.person_id = selected.person_id
        and active_on(m.start_date, m.end_date, :today)
      offset 0)
    else exists (
      select from contact_point c
      where c.district_id = :district_id and c.person_id = selected.person_id and c.kind = k.kind
      offset 0)
    end
  offset 0)
