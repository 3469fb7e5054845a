-- Adds to the counts of the cells of a run in {counts}: batch_cell, or batch_forecast for what a plan foresees. Of a
-- person's own contact point as many people are concerned as were updated; for the household phone see count_people.
-- Parameters: district_id, batch_run_id, contact_points, reasons, updated, unchanged, overwrote, kept, left (arrays of one length)
update {counts} cell
set updated = cell.updated + n.updated, unchanged = cell.unchanged + n.unchanged,
  overwrote_chosen = cell.overwrote_chosen + n.overwrote, kept_chosen = cell.kept_chosen + n.kept,
  left_alone = cell.left_alone + n.left_alone,
  people_affected = cell.people_affected + case when cell.contact_point <> 'HOUSEHOLD_PHONE' then n.updated else 0 end
from unnest(:contact_points::contact_point_kind[], :reasons::text[],
  :updated::bigint[], :unchanged::bigint[], :overwrote::bigint[], :kept::bigint[], :left::bigint[])
  as n (contact_point, reason, updated, unchanged, overwrote, kept, left_alone)
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = n.contact_point and cell.reason = n.reason
