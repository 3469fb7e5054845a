-- Household: all for administrators and vendors; for others the names of those that they or their students are active
-- members of, and the phone of those alone that they are an active member of themselves (D27).
-- Parameters: district_id, viewer_role
-- Columns: household_id, id, name, phone
select h.household_id, 'household_' || h.household_id as id, h.name,
  case when :viewer_role in ('ADMIN', 'VENDOR')
    or h.household_id in (select household_id from viewer_household where own) then h.phone end as phone
from household h
where h.district_id = :district_id
  and (:viewer_role in ('ADMIN', 'VENDOR') or h.household_id = any (array(select household_id from viewer_household)))
