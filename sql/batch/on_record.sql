-- Those of the contact points named of which a value is on record for somebody selected (D15).
-- Parameters: contact_points
-- Columns: contact_point
select k.kind as contact_point
from unnest(:contact_points::contact_point_kind[]) as k (kind)
cross join lateral (
  select from gathered c where c.contact_point = k.kind and c.address is not null
  limit 1 -- the first will do
) found
