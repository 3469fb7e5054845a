-- Person: administrators and vendors see everybody. Others see themselves and the students whose contact they are
-- (D27). A person is active if they are enrolled, assigned, or somebody's contact today (D6); for a portal user
-- only the assignments and relationships count that they may see. `offset 0` makes PostgreSQL look these up for each
-- person: for a page of people it would else read all enrollments, assignments and relationships of the district.
-- Parameters: district_id, today, viewer_sees_all, viewer_person_id
-- Columns: person_id, id, source_id, first_name, last_name, active
select p.person_id, 'person_' || p.person_id as id, p.source_id, p.first_name, p.last_name,
  exists (
    select from enrollment e
    where e.district_id = p.district_id and e.person_id = p.person_id
      and active_on(e.start_date, e.end_date, :today)
    offset 0)
  or exists (
    select from district_assignment a
    where a.district_id = p.district_id and a.person_id = p.person_id
      and (:viewer_sees_all or a.person_id = :viewer_person_id)
      and active_on(a.start_date, a.end_date, :today)
    offset 0)
  or exists (
    select from relationship r
    where r.district_id = p.district_id and r.contact_id = p.person_id
      and (:viewer_sees_all
        or r.contact_id = :viewer_person_id and r.student_id in (select person_id from viewer_student))
      and active_on(r.start_date, r.end_date, :today)
    offset 0) as active
from person p
where p.district_id = :district_id
  and (:viewer_sees_all
    -- As an array, and not as conditions: those would read all people of the district.
    or p.person_id = any (array(select :viewer_person_id union all select person_id from viewer_student)))
