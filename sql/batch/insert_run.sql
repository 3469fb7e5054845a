-- Records a run, to be worked by whichever worker is free.
-- Parameters: district_id, mode, scope, keep_chosen, requested_by
-- Columns: batch_run_id
insert into batch_run (district_id, mode, scope, keep_chosen, requested_by)
values (:district_id, :mode, :scope::jsonb, :keep_chosen, :requested_by)
returning batch_run_id
