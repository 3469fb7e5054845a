-- Those of the schools named that are the district's.
-- Parameters: district_id, school_ids
-- Columns: school_id
select school_id from school where district_id = :district_id and school_id = any(:school_ids::bigint[])
