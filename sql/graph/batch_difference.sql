-- BatchDifference: what had changed since the plan when the plan was applied. There is no row for a run that was
-- not planned first.
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, left_population, chose_since, excluded_since, outdated
select b.batch_run_id, b.left_population, b.plan_outdated as outdated,
  coalesce(sum(cell.left_alone), 0)::bigint as chose_since,
  coalesce(sum(cell.excluded_since), 0)::bigint as excluded_since
from batch_run b
left join batch_cell cell on cell.district_id = b.district_id and cell.batch_run_id = b.batch_run_id
where b.district_id = :district_id and :viewer_role = 'ADMIN' and b.left_population is not null
group by b.batch_run_id, b.left_population, b.plan_outdated
