-- PreferenceCell: the cells that a change turned on. {parent} is a row of change.
-- Parameters: district_id
-- Columns: bit, contact_point, method, reason, on
select r.bit, {parent}.contact_point, {parent}.method, r.code as reason, true as "on"
from contact_reason r
where r.district_id = :district_id and {parent}.turned_on_mask & (1::bigint << r.bit) <> 0
