-- The kind of a saved filter.
-- Parameters: district_id, saved_filter_id
-- Columns: kind
select kind from saved_filter where district_id = :district_id and saved_filter_id = :saved_filter_id
