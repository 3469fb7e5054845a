-- Returns what a write to one person or household sets: a row for each channel, none if there is no such subject. This
-- is the {target} of preference/write. {owner} is `person` and {subject} its column `person_id`, or `household` and
-- `household_id`.
--
-- The arrays stand in subqueries, so that the planner does not look into them: the plan is the same for any values, and
-- PostgreSQL makes it once for each prepared statement.
-- Parameters: district_id, subject_id, contact_points, methods, on_masks, off_masks (arrays of one length)
-- Columns: subject_id, contact_point, method, on_mask, off_mask
select o.{subject} as subject_id, c.contact_point, c.method, c.on_mask, c.off_mask
from {owner} o
cross join unnest(
  (select :contact_points::contact_point_kind[]), (select :methods::method[]),
  (select :on_masks::bigint[]), (select :off_masks::bigint[])) as c (contact_point, method, on_mask, off_mask)
where o.district_id = :district_id and o.{subject} = :subject_id
