-- Returns the channels that a write to one person or household names, with the addresses on record: the {page} of
-- rules/page_denials. {addresses} is person_addresses or household_addresses.
--
-- The arrays stand in subqueries, so that the planner does not look into them, as in cells.sql.
-- Parameters: district_id, household, subject_id, contact_points, methods, on_masks, off_masks (arrays of one length)
-- Columns: household, subject_id, contact_point, method, address, on_mask, off_mask
select :household::boolean as household, :subject_id::bigint as subject_id, c.contact_point, c.method, a.address,
  c.on_mask, c.off_mask
from unnest(
  (select :contact_points::contact_point_kind[]), (select :methods::method[]),
  (select :on_masks::bigint[]), (select :off_masks::bigint[])) as c (contact_point, method, on_mask, off_mask)
left join (
  {addresses}
) a on a.contact_point = c.contact_point
