-- The channels of the selected people that a run names, with the value on record (D14, D16).
-- Parameters: district_id, contact_points, methods, on_masks, off_masks (arrays of one length)
insert into candidate (household, subject_id, contact_point, method, address, on_mask, off_mask)
select false, s.person_id, k.contact_point, k.method, c.value, k.on_mask, k.off_mask
from selected s
cross join unnest(:contact_points::contact_point_kind[], :methods::method[], :on_masks::bigint[], :off_masks::bigint[])
  as k (contact_point, method, on_mask, off_mask)
left join contact_point c
  on c.district_id = :district_id and c.person_id = s.person_id and c.kind = k.contact_point
  and c.kind = any (:contact_points::contact_point_kind[]) -- before the join: most rows are of other kinds
where k.contact_point <> 'HOUSEHOLD_PHONE'
