-- PreferenceCell: the cells that a change turned on. {parent} is a row of change.
-- Parameters: district_id
-- Columns: bit, contact_point, method, reason, on
select r.bit, c.contact_point, c.method, r.code as reason, true as "on"
from (
  select c.contact_point, c.method, mask_at(c.turned_on, p.place) as mask
  from change c
  cross join lateral (select place_of(c.subject_ids, {parent}.subject_id) as place) p
  where c.district_id = :district_id and c.revision = {parent}.revision_number
    and c.subject = case when {parent}.household then 'HOUSEHOLD' else 'PERSON' end::subject_kind
    and c.bucket = bucket_of({parent}.subject_id) and c.kind = 'PREFERENCES'
    and p.place is not null
) c
join contact_reason r on r.district_id = :district_id and c.mask & (1::bigint << r.bit) <> 0
