-- What one rule says of the channels of a person or household that is being written. {denies} is the rule's SELECT.
-- Parameters: district_id, today, household, subject_id, contact_points, methods, addresses, on_masks, off_masks
-- Columns: contact_point, reasons
with candidate as (
  select :household::boolean as household, :subject_id::bigint as subject_id, c.*
  from unnest(:contact_points::contact_point_kind[], :methods::method[], :addresses::text[],
    :on_masks::bigint[], :off_masks::bigint[])
    as c (contact_point, method, address, on_mask, off_mask)
)
select d.contact_point, coalesce(bit_or(coalesce(d.reasons, -1)), -1) as reasons
from ({denies}) d
where :today::date is not null
group by d.contact_point
