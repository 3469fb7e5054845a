-- Finds the phones of the households in which a selected person is an active member, each once (D17). {denied_by},
-- {denied_reasons} and {fence}: see find_people_channels.sql.
-- Parameters: district_id, today, contact_point, method, on_mask, off_mask
-- Columns: none
insert into all_channels (household, subject_id, contact_point, method, address, on_mask, off_mask, denied_by,
  denied_reasons, planned_reasons)
select c.*, ~c.denied_reasons
from (
  select c.*, {denied_by} as denied_by, {denied_reasons} as denied_reasons
  from (
    select true as household, h.household_id as subject_id, :contact_point::contact_point_kind as contact_point,
      :method::method as method, h.phone as address, :on_mask::bigint as on_mask, :off_mask::bigint as off_mask
    from household h
    where h.district_id = :district_id
      and h.household_id in (
        select m.household_id
        from household_member m
        join population s on s.person_id = m.person_id
        where m.district_id = :district_id
          and active_on(m.start_date, m.end_date, :today))
  ) c
  {fence}
) c
