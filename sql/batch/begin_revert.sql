-- Takes a run out of its worker's hands, to be undone, and records the run that undoes it. With :at_once that one stands
-- before all others in the queue: until it is done the district is halfway. The row is locked.
-- Parameters: district_id, batch_run_id, requested_by, status_before, at_once
-- Columns: batch_run_id
with original as (
  update batch_run
  set status = 'REVERTING', status_before_revert = :status_before, lease_owner = null, lease_expires_at = null
  where district_id = :district_id and batch_run_id = :batch_run_id
  returning mode, scope, queued_at
)
insert into batch_run (district_id, mode, scope, requested_by, reverts_run_id, queued_at)
select :district_id, mode, scope, :requested_by, :batch_run_id, case when :at_once then queued_at else now() end
from original
returning batch_run_id
