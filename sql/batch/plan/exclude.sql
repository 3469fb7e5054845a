-- Records whom the rules excluded from which cells, and counts them in {counts}: batch_forecast for a plan that is only
-- looked at, else batch_cell. With :since they count as excluded since an earlier plan, whose blocks they follow. Blocks are
-- numbered in the order in which exclusions are read. {first_denials}: see the file of that name.
-- Parameters: district_id, batch_run_id, since
-- Columns: none
with before_early as ( -- what rules before an early one deny of its reasons
  select d.household, d.subject_id, d.contact_point, d.method, bit_or(d.on_reasons & e.reasons) as on_reasons,
    bit_or(d.off_reasons & e.reasons) as off_reasons
  from early_rule e
  join denial d on d.rule_no < e.rule_no
  group by d.household, d.subject_id, d.contact_point, d.method
),
denied_when_found as (
  select denied_by, household, contact_point, reasons, bucket_of(subject_id) as bucket, array_agg(subject_id) as subject_ids
  from (
    select c.denied_by, c.household, c.subject_id, c.contact_point,
      case
        when c.denied_by is not null then (c.on_mask | c.off_mask) & (c.planned_reasons | c.denied_reasons)
        else c.denied_reasons & ~coalesce((d.on_reasons & c.on_mask) | (d.off_reasons & c.off_mask), 0)
      end as reasons
    from all_channels c
    left join before_early d using (household, subject_id, contact_point, method)
    where c.denied_by is not null or c.denied_reasons <> 0
  ) c
  where reasons <> 0
  group by denied_by, household, contact_point, reasons, bucket
),
block as (
  insert into batch_exclusion_block
    (district_id, batch_run_id, rule_no, household, contact_point, reasons, code, because, remedy, subject_ids, block)
  select :district_id, :batch_run_id, rule_no, household, contact_point, reasons, code, because, remedy,
    subject_ids,
    coalesce((
      select max(b.block) from batch_exclusion_block b
      where b.district_id = :district_id and b.batch_run_id = :batch_run_id), 0)
    + row_number() over (order by rule_no, household, bucket, contact_point, reasons, code, because, remedy)
  from (
    select coalesce(c.denied_by, e.rule_no) as rule_no, c.household, c.contact_point,
      c.reasons & coalesce(e.reasons, -1) as reasons, null as code, null as because, null as remedy, c.bucket, c.subject_ids
    from denied_when_found c
    left join early_rule e on c.denied_by is null and c.reasons & e.reasons <> 0
    union all
    select rule_no, household, contact_point, reasons, code, because, remedy, bucket_of(subject_id), array_agg(subject_id)
    from ({first_denials}) first
    group by rule_no, household, contact_point, reasons, code, because, remedy, bucket_of(subject_id)
  ) excluded
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
