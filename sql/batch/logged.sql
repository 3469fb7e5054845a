-- The households that a revision changed, and the bits, by the log.
-- Parameters: district_id, revision
-- Columns: household_id, reasons
select household_id, turned_on | turned_off as reasons
from change
where district_id = :district_id and revision = :revision and household_id is not null
