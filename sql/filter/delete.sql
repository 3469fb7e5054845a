-- Deletes a saved filter.
-- Parameters: district_id, saved_filter_id
-- Columns: saved_filter_id
delete from saved_filter where district_id = :district_id and saved_filter_id = :saved_filter_id
returning saved_filter_id
