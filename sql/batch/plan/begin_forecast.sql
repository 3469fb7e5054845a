-- Inserts the rows into which the plan of a run counts what it predicts, one for each cell that the run names (D20).
-- Parameters: district_id, batch_run_id
-- Columns: none
insert into batch_forecast (district_id, batch_run_id, contact_point, reason, turn_on)
select district_id, batch_run_id, contact_point, reason, turn_on
from batch_cell where district_id = :district_id and batch_run_id = :batch_run_id
