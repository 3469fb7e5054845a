-- Finds one channel that a run names, of the selected people, with the value on record (D14, D16). {people} has them each
-- once: `population`, or what fills it. {denied_by} is, for such a channel `c`, the number of the first rule whose condition
-- denies it whole, or null; {denied_reasons} has the reasons that early rules deny (see relations.sql). They are computed
-- once: the {fence} `offset 0`, where there are any, keeps them from being merged with their use.
-- Parameters: district_id, today, contact_point, method, on_mask, off_mask
-- Columns: none
insert into all_channels (household, subject_id, contact_point, method, address, on_mask, off_mask, denied_by,
  denied_reasons, planned_reasons)
select c.*, ~c.denied_reasons
from (
  select c.*, {denied_by} as denied_by, {denied_reasons} as denied_reasons
  from (
    select false as household, s.person_id as subject_id, :contact_point::contact_point_kind as contact_point,
      :method::method as method, p.value as address, :on_mask::bigint as on_mask, :off_mask::bigint as off_mask
    from ({people}) s
    left join contact_point p
      on p.district_id = :district_id and p.person_id = s.person_id and p.kind = :contact_point
  ) c
  {fence}
) c
