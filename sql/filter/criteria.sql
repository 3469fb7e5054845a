-- The criteria of all filters of a district.
-- Parameters: district_id
-- Columns: saved_filter_id, kind, criteria (jsonb)
select saved_filter_id, kind, criteria from saved_filter where district_id = :district_id order by saved_filter_id
