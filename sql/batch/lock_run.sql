-- Locks a run, to change its state: a worker's claim or chunk comes wholly before or wholly after.
-- Parameters: district_id, batch_run_id
-- Columns: status, reverts_run_id, chunks_done
select status, reverts_run_id, chunks_done
from batch_run
where district_id = :district_id and batch_run_id = :batch_run_id
for no key update
