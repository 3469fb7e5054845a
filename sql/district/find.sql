-- The district of a code.
-- Parameters: code
-- Columns: district_id, code, time_zone
select district_id, code, time_zone from district where code = :code
