-- The candidates, and what the rules leave of the bits to turn on and off. A null mask: a rule denied what is no candidate.
-- Columns: household, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen
select c.household, c.subject_id, c.contact_point, c.method,
  c.on_mask & ~coalesce(d.reasons, 0) as on_mask, c.off_mask & ~coalesce(d.reasons, 0) as off_mask,
  coalesce(c.skip_if_chosen & ~coalesce(d.reasons, 0), 0) as skip_if_chosen, 0::bigint as mark_as_chosen
from candidate c
full join (
  select household, subject_id, contact_point, bit_or(reasons) as reasons
  from denied group by household, subject_id, contact_point
) d using (household, subject_id, contact_point)
