-- Whether a district has people.
-- Parameters: district_id
-- Columns: occupied
select exists (select from person where district_id = :district_id) as occupied
