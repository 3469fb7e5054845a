-- DistrictAssignment: administrators and vendors see all, others their own (D27).
-- Parameters: district_id, today, viewer_sees_all, viewer_person_id
-- Columns: district_assignment_id, person_id, school_id, title, start_date, end_date, active
select a.district_assignment_id, a.person_id, a.school_id, a.title, a.start_date, a.end_date,
  active_on(a.start_date, a.end_date, :today) as active
from district_assignment a
where a.district_id = :district_id
  and (:viewer_sees_all or a.person_id = :viewer_person_id)
