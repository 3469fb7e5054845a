-- Writes down whom the rules kept out of which cells, and counts them; with :since beside those of an older plan.
-- Parameters: district_id, batch_run_id, since
with kept_out as (
  insert into batch_exclusion_block
    (district_id, batch_run_id, rule_no, household, contact_point, reasons, because, subject_ids)
  select :district_id, :batch_run_id, rule_no, household, contact_point, reasons, because, array_agg(subject_id)
  from denied
  group by rule_no, household, contact_point, reasons, because, subject_id / 10000
),
counted as (
  select contact_point, reasons, count(*) as rows from denied group by contact_point, reasons
),
by_cell as (
  select counted.contact_point, r.code as reason, sum(counted.rows) as rows
  from counted
  join contact_reason r on r.district_id = :district_id and counted.reasons & (1::bigint << r.bit) <> 0
  group by counted.contact_point, r.code
)
update batch_cell cell
set excluded = cell.excluded + by_cell.rows,
  excluded_since = cell.excluded_since + case when :since then by_cell.rows else 0 end
from by_cell
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = by_cell.contact_point and cell.reason = by_cell.reason
