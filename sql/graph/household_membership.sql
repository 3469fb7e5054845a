-- HouseholdMembership: a portal user sees active ones, their own and their students', never another member's
-- (D27).
-- Parameters: district_id, today, viewer_sees_all, viewer_person_id
-- Columns: household_member_id, household_id, person_id, active
select m.household_member_id, m.household_id, m.person_id,
  active_on(m.start_date, m.end_date, :today) as active
from household_member m
where m.district_id = :district_id
  and (:viewer_sees_all
    or (m.person_id = :viewer_person_id or m.person_id in (select person_id from viewer_student))
      and active_on(m.start_date, m.end_date, :today))
