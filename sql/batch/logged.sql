-- The households that a run has changed, and the bits, by the log.
-- Parameters: district_id, batch_run_id
-- Columns: household_id, reasons
select c.household_id, c.turned_on | c.turned_off as reasons
from change c
where c.district_id = :district_id and c.household_id is not null
  and c.revision = any (array(
    select s.revision from change_set s
    where s.district_id = :district_id and s.batch_run_id = :batch_run_id))
