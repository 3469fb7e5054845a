-- Returns what a write to one person or household sets, as cells.sql, unless a rule denies some of it: then no row. This
-- is the {target} of preference/write where that asks the rules itself. {cells} is cells.sql, and {page_denials}
-- is rules/page_denials over page.sql.
-- Parameters: district_id, today
-- Columns: subject_id, contact_point, method, on_mask, off_mask
select cell.subject_id, cell.contact_point, cell.method, cell.on_mask, cell.off_mask
from (
  {cells}
) cell
where not exists (
  select from (
    {page_denials}
  ) denied
  where denied.reasons is distinct from 0)
