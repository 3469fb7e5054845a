-- Records whom the rules excluded from which cells, and counts them in {counts}: batch_forecast for a plan that is only
-- looked at, else batch_cell. With :since they count as excluded since an earlier plan, whose blocks they follow. Blocks are
-- numbered in the order in which exclusions are read. {first_denials}: see the file of that name.
-- Parameters: district_id, batch_run_id, since
-- Columns: none
with block as (
  insert into batch_exclusion_block
    (district_id, batch_run_id, rule_no, household, contact_point, reasons, code, because, remedy, subject_ids, block)
  select :district_id, :batch_run_id, rule_no, household, contact_point, reasons, code, because, remedy,
    array_agg(subject_id),
    coalesce((
      select max(b.block) from batch_exclusion_block b
      where b.district_id = :district_id and b.batch_run_id = :batch_run_id), 0)
    + row_number() over (
      order by rule_no, household, bucket_of(subject_id), contact_point, reasons, code, because, remedy)
  from (
    select denied_by as rule_no, household, subject_id, contact_point, (on_mask | off_mask) & planned_reasons as reasons,
      null as code, null as because, null as remedy
    from all_channels where denied_by is not null
    union all
    select rule_no, household, subject_id, contact_point, reasons, code, because, remedy
    from ({first_denials}) first
  ) excluded
  where reasons <> 0
  group by rule_no, household, contact_point, reasons, code, because, remedy, bucket_of(subject_id)
  returning contact_point, reasons, cardinality(subject_ids) as rows
),
by_cell as (
  select block.contact_point, r.code as reason, sum(block.rows) as rows
  from block
  join contact_reason r on r.district_id = :district_id and block.reasons & (1::bigint << r.bit) <> 0
  group by block.contact_point, r.code
)
update {counts} cell
set excluded = cell.excluded + by_cell.rows,
  excluded_since = cell.excluded_since + case when :since then by_cell.rows else 0 end
from by_cell
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = by_cell.contact_point and cell.reason = by_cell.reason
