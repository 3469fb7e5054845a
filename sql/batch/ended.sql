-- Whether a run has ended.
-- Parameters: district_id, batch_run_id
-- Columns: ended
select has_ended(status) as ended
from batch_run where district_id = :district_id and batch_run_id = :batch_run_id
