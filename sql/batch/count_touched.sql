-- Counts the cells that a revert leaves alone because somebody changed them since.
-- Parameters: district_id, batch_run_id
with counted as (
  select contact_point, (turned_on | turned_off) & touched as reasons, count(*) as rows
  from undone where (turned_on | turned_off) & touched <> 0
  group by 1, 2
),
by_cell as (
  select counted.contact_point, r.code as reason, sum(counted.rows) as rows
  from counted
  join contact_reason r on r.district_id = :district_id and counted.reasons & (1::bigint << r.bit) <> 0
  group by counted.contact_point, r.code
)
update batch_cell cell set left_alone = cell.left_alone + by_cell.rows
from by_cell
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = by_cell.contact_point and cell.reason = by_cell.reason
