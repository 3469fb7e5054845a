-- Asks rules in SQL about a page of channels. {page} is a SELECT of them, such as page.sql. {denied_by} is, for a
-- channel `c`, the number of the first rule whose condition denies it whole, or null. The channels without one are the
-- relation `candidate`, over which {denials} asks the other rules, with the rows of denials.sql for each. `selected` is
-- empty: nobody was selected.
-- Parameters: district_id, today
-- Columns: rule_no, whole (by a condition), household, subject_id, contact_point, method, reasons (null: this is no
-- candidate)
with all_channels as materialized (
  select c.*, {denied_by} as denied_by
  from (
    {page}
  ) c
),
candidate as (
  select household, subject_id, contact_point, method, address, on_mask, off_mask
  from all_channels where denied_by is null
),
selected as (
  select null::bigint as person_id, null::bigint as student_id where false
),
denial as (
  {denials}
)
select d.rule_no, false as whole, d.household, d.subject_id, d.contact_point, d.method,
  (d.on_reasons & c.on_mask) | (d.off_reasons & c.off_mask) as reasons
from denial d
left join candidate c using (household, subject_id, contact_point, method)
union all
select denied_by, true, household, subject_id, contact_point, method, on_mask | off_mask
from all_channels where denied_by is not null
