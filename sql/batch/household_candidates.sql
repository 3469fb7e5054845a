-- The households in which a selected person is an active member, each once (D17).
-- Parameters: district_id, today, contact_point, method, on_mask, off_mask
insert into candidate (household, subject_id, contact_point, method, address, on_mask, off_mask)
select true, h.household_id, :contact_point, :method, h.phone, :on_mask, :off_mask
from household h
where h.district_id = :district_id
  and h.household_id in (
    select m.household_id
    from household_member m
    join selected s on s.person_id = m.person_id
    where m.district_id = :district_id
      and (m.start_date is null or m.start_date <= :today) and (m.end_date is null or m.end_date >= :today))
