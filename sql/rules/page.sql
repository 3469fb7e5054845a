-- Returns a page of channels that is given with its addresses: the {page} of page_denials. The planner sees how many
-- there are.
-- Parameters: households, subject_ids, contact_points, methods, addresses, on_masks, off_masks (arrays of one length)
-- Columns: household, subject_id, contact_point, method, address, on_mask, off_mask
select household, subject_id, contact_point, method, address, on_mask, off_mask
from unnest(:households::boolean[], :subject_ids::bigint[], :contact_points::contact_point_kind[],
  :methods::method[], :addresses::text[], :on_masks::bigint[], :off_masks::bigint[])
  as c (household, subject_id, contact_point, method, address, on_mask, off_mask)
