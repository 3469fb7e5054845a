-- The candidates, and what the rules leave of the bits to turn on and off. A null mask: a rule denied what is no candidate.
-- Columns: household, subject_id, contact_point, method, on_mask, off_mask, yield_mask, choose_mask
select c.household, c.subject_id, c.contact_point, c.method,
  c.on_mask & ~coalesce(d.reasons, 0) as on_mask, c.off_mask & ~coalesce(d.reasons, 0) as off_mask,
  coalesce(c.yield_mask & ~coalesce(d.reasons, 0), 0) as yield_mask, 0::bigint as choose_mask
from candidate c
full join (
  select household, subject_id, contact_point, bit_or(reasons) as reasons
  from denied group by household, subject_id, contact_point
) d using (household, subject_id, contact_point)
