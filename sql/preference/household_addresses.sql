-- Returns a household's phone, null if it has none. There is no row for a household that does not exist.
-- Parameters: district_id, subject_id
-- Columns: contact_point, address
select 'HOUSEHOLD_PHONE'::contact_point_kind as contact_point, phone as address
from household where district_id = :district_id and household_id = :subject_id
