-- Gathers one of the channels that a run names, of the selected people, with the value on record (D14, D16). {barred_by}
-- gives, of each such row `c`, the number of the rule that bars it.
-- Parameters: district_id, contact_point, method, on_mask, off_mask
insert into gathered (household, subject_id, contact_point, method, address, on_mask, off_mask, barred_by)
select c.*, {barred_by}
from (
  select false as household, s.person_id as subject_id, :contact_point::contact_point_kind as contact_point,
    :method::method as method, p.value as address, :on_mask::bigint as on_mask, :off_mask::bigint as off_mask
  from (select distinct person_id from selected) s
  left join contact_point p
    on p.district_id = :district_id and p.person_id = s.person_id and p.kind = :contact_point
) c
