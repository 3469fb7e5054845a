-- Makes room for what a plan foresees of the cells that its run names.
-- Parameters: district_id, batch_run_id
insert into batch_forecast (district_id, batch_run_id, contact_point, reason, turn_on)
select district_id, batch_run_id, contact_point, reason, turn_on
from batch_cell where district_id = :district_id and batch_run_id = :batch_run_id
