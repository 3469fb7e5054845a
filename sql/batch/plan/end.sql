-- Ends the plan of a run, unless the run was cancelled or another worker has taken it over. A run that is only planned is
-- released by its worker. A plan that is being applied keeps its population; `left_population` says how many have left it.
-- This statement locks the run and is therefore the plan's last: until then the lease can be renewed and the run cancelled.
-- Parameters: district_id, batch_run_id, lease_owner, today, population, total, left_population (null where no earlier plan is applied), max_age_seconds
-- Columns: batch_run_id
update batch_run
set status = case when plan_only then 'PLANNED'::batch_status else 'APPLYING' end,
  today = :today, population = case when planned_at is null then :population else population end, total = :total,
  left_population = :left_population, plan_outdated = planned_at < now() - make_interval(secs => :max_age_seconds),
  planned_at = case when plan_only then now() else planned_at end,
  planning_step = null, planning_done = null, planning_total = null, claims = 0,
  lease_owner = case when not plan_only then lease_owner end,
  lease_expires_at = case when not plan_only then lease_expires_at end
where district_id = :district_id and batch_run_id = :batch_run_id and lease_owner = :lease_owner and status = 'PLANNING'
returning batch_run_id
