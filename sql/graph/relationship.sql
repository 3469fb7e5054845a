-- Relationship: a portal user sees active ones, their own to the students whose contact they are (D27).
-- Parameters: district_id, today, viewer_sees_all, viewer_person_id
-- Columns: relationship_id, student_id, contact_id, kind, guardian, messenger, no_contact, start_date, end_date, active
select r.relationship_id, r.student_id, r.contact_id, r.kind, r.guardian, r.messenger, r.no_contact, r.start_date, r.end_date,
  active_on(r.start_date, r.end_date, :today) as active
from relationship r
where r.district_id = :district_id
  and (:viewer_sees_all
    or r.contact_id = :viewer_person_id and r.student_id in (select person_id from viewer_student)
      and active_on(r.start_date, r.end_date, :today))
