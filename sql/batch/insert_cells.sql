-- Records the cells that a run names (D13).
-- Parameters: district_id, batch_run_id, contact_points, reasons, turn_ons (arrays of one length)
insert into batch_cell (district_id, batch_run_id, contact_point, reason, turn_on)
select :district_id, :batch_run_id, c.contact_point, c.reason, c.turn_on
from unnest(:contact_points::contact_point_kind[], :reasons::text[], :turn_ons::boolean[])
  as c (contact_point, reason, turn_on)
