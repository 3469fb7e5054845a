-- Begins to apply a plan: whom its rules kept out stays out, and is counted so.
-- Parameters: district_id, batch_run_id
update batch_cell cell set excluded = f.excluded
from batch_forecast f
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and f.district_id = :district_id and f.batch_run_id = :batch_run_id
  and f.contact_point = cell.contact_point and f.reason = cell.reason
