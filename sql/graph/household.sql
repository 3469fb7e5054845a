-- Household: all for administrators and vendors; for others those they or their students are active members of,
-- name and phone (D27).
-- Parameters: district_id, viewer_role
-- Columns: household_id, id, name, phone
select h.household_id, 'household_' || h.household_id as id, h.name, h.phone
from household h
where h.district_id = :district_id
  and (:viewer_role in ('ADMIN', 'VENDOR') or h.household_id = any (array(select household_id from viewer_household)))
