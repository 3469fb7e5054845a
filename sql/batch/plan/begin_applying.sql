-- Begins to apply a plan: whoever its rules excluded stays excluded, and counts as such.
-- Parameters: district_id, batch_run_id
-- Columns: none
update batch_cell cell set excluded = f.excluded
from batch_forecast f
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and f.district_id = :district_id and f.batch_run_id = :batch_run_id
  and f.contact_point = cell.contact_point and f.reason = cell.reason
