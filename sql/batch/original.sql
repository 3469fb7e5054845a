-- The run that a revert undoes.
-- Parameters: district_id, batch_run_id
-- Columns: population, finished
select population, finished_at is not null as finished
from batch_run where district_id = :district_id and batch_run_id = :batch_run_id
