-- The run that a revert undoes.
-- Parameters: district_id, batch_run_id
-- Columns: population
select population
from batch_run where district_id = :district_id and batch_run_id = :batch_run_id
