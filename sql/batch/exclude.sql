-- Writes down whom the rules kept out of which cells, and counts them in {counts}: batch_forecast for a plan that is to be
-- looked at, else batch_cell; with :since as those whom an older plan did not keep out. A rule's no counts for the bits
-- that were left to the candidate, of which a plan that is applied has fewer than the request.
-- Parameters: district_id, batch_run_id, since
with block as (
  insert into batch_exclusion_block
    (district_id, batch_run_id, rule_no, household, contact_point, reasons, because, subject_ids)
  select :district_id, :batch_run_id, rule_no, household, contact_point, reasons, because, array_agg(subject_id)
  from (
    select barred_by as rule_no, household, subject_id, contact_point, on_mask | off_mask as reasons, null as because
    from gathered where barred_by is not null
    union all
    select d.rule_no, household, subject_id, contact_point, d.reasons & (g.on_mask | g.off_mask), d.because
    from denied d join gathered g using (household, subject_id, contact_point)
  ) kept_out
  where reasons <> 0
  group by rule_no, household, contact_point, reasons, because, subject_id / 10000
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
