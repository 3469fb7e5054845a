-- How far a run is: what its watchers are told of when it changes.
-- Parameters: district_id, batch_run_id
-- Columns: status, done, total, population, ended, planning_step, planning_done, planning_total
select status, done, total, population, has_ended(status) as ended,
  planning_step, planning_done, planning_total
from batch_run where district_id = :district_id and batch_run_id = :batch_run_id
