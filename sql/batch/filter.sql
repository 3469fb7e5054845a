-- The kind and criteria of a saved filter.
-- Parameters: district_id, saved_filter_id
-- Columns: kind, criteria
select kind, criteria from saved_filter where district_id = :district_id and saved_filter_id = :saved_filter_id
