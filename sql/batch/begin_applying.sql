-- Notes how a plan fits when it is applied, and forgets what it foresaw: what really happens is counted instead.
-- Parameters: district_id, batch_run_id, gone, max_age_seconds
-- Columns: cells
with fitted as (
  update batch_run
  set left_population = :gone, plan_outdated = planned_at < now() - make_interval(secs => :max_age_seconds)
  where district_id = :district_id and batch_run_id = :batch_run_id
),
cell as (
  update batch_cell
  set updated = 0, unchanged = 0, overwrote_chosen = 0, kept_chosen = 0, people_affected = 0
  where district_id = :district_id and batch_run_id = :batch_run_id
  returning reason
)
select count(*) as cells from cell
