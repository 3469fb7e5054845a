-- Records a run, to be worked by whichever worker is free. A dry run only plans until it is applied.
-- Parameters: district_id, mode, scope, keep_chosen, dry_run, requested_by
-- Columns: batch_run_id
insert into batch_run (district_id, mode, scope, keep_chosen, dry_run, plan_only, requested_by)
values (:district_id, :mode, :scope::jsonb, :keep_chosen, :dry_run, :dry_run, :requested_by)
returning batch_run_id
