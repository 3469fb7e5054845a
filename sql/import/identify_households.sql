-- Gives the staged households their ids.
-- Parameters: district_id
update import_household w set household_id = h.household_id
from household h
where h.district_id = :district_id and h.source_id = w.source_id
