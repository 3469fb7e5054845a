-- The cells that a run names.
-- Parameters: district_id, batch_run_id
-- Columns: contact_point, reason, turn_on
select contact_point, reason, turn_on from batch_cell
where district_id = :district_id and batch_run_id = :batch_run_id
order by contact_point, reason
