-- Returns what a write to one person or household sets: a row for each channel. This is the {target} of
-- preference/write.
-- Parameters: subject_id, contact_points, methods, on_masks, off_masks (arrays of one length)
-- Columns: subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen
select :subject_id::bigint as subject_id, c.contact_point, c.method, c.on_mask, c.off_mask,
  0::bigint as skip_if_chosen, 0::bigint as mark_as_chosen
from unnest(:contact_points::contact_point_kind[], :methods::method[], :on_masks::bigint[], :off_masks::bigint[])
  as c (contact_point, method, on_mask, off_mask)
