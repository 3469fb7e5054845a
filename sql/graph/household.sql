-- Household: administrators and vendors see all. A portal user sees the names of the households of which they or
-- their students are active members, and the phone of a household only if they are an active member themselves
-- (D27).
-- Parameters: district_id, viewer_sees_all
-- Columns: household_id, id, name, phone
select h.household_id, 'household_' || h.household_id as id, h.name,
  case when :viewer_sees_all
    or h.household_id in (select household_id from viewer_household where own) then h.phone end as phone
from household h
where h.district_id = :district_id
  and (:viewer_sees_all or h.household_id = any (array(select household_id from viewer_household)))
