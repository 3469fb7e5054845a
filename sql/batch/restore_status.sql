-- Lets a run stand as it was before its revert, which did not come to its end.
-- Parameters: district_id, batch_run_id (of the revert)
update batch_run original
set status = original.status_before_revert, finished_at = coalesce(original.finished_at, now())
from batch_run revert
where revert.district_id = :district_id and revert.batch_run_id = :batch_run_id
  and original.district_id = :district_id and original.batch_run_id = revert.reverts_run_id
  and original.status = 'REVERTING'
