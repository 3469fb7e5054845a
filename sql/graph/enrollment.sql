-- Enrollment: a portal user sees their own and their students' (D27).
-- Parameters: district_id, today, viewer_sees_all, viewer_person_id
-- Columns: enrollment_id, person_id, school_id, school_year, grade, start_date, end_date, active
select e.enrollment_id, e.person_id, e.school_id, e.school_year, e.grade, e.start_date, e.end_date,
  active_on(e.start_date, e.end_date, :today) as active
from enrollment e
where e.district_id = :district_id
  and (:viewer_sees_all
    or e.person_id = :viewer_person_id
    or e.person_id in (select person_id from viewer_student))
