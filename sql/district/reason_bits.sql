-- The bit of each reason of a district.
-- Parameters: district_id
-- Columns: code, bit
select code, bit from contact_reason where district_id = :district_id order by bit
