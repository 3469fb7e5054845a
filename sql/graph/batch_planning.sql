-- BatchPlanning: how far the planning of a run is. There is no row for a run that is not PLANNING.
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, step, done, total
select b.batch_run_id, b.planning_step as step, b.planning_done as done, b.planning_total as total
from batch_run b
where b.district_id = :district_id and :viewer_role = 'ADMIN' and b.status = 'PLANNING'
  and b.planning_step is not null
