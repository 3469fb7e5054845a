-- Viewer: who asks, and whether they may change their own preferences, else why not (D23).
-- Parameters: viewer_role, viewer_person_id, today, district_id
-- Columns: role, person_id, can_change_own_preferences, why_not
select v.role, v.person_id, v.why_not is null as can_change_own_preferences, v.why_not
from (
  select :viewer_role as role, me.person_id,
    case
      when :viewer_role in ('ADMIN', 'VENDOR') then 'Only people have preferences of their own.'
      when me.person_id is null then 'Nobody of this district belongs to this sign-in.'
      when :viewer_role = 'STAFF' then 'Staff ask for a change of their own preferences; an administrator approves it.'
      when not exists (
        select from enrollment e
        join school s on s.district_id = e.district_id and s.school_id = e.school_id
        where e.district_id = :district_id and s.portal_contact_information
          and (e.person_id = me.person_id and :viewer_role = 'STUDENT'
            or e.person_id in (select r.student_id from relationship r
               where r.district_id = :district_id and r.contact_id = me.person_id and r.messenger
                 and :viewer_role = 'GUARDIAN'
                 and :today between coalesce(r.start_date, '-infinity') and coalesce(r.end_date, 'infinity'))
              and e.person_id in (select person_id from viewer_student))
          and :today between coalesce(e.start_date, '-infinity') and coalesce(e.end_date, 'infinity'))
        then 'No school that this concerns lets people change their contact information in the portal.'
    end as why_not
  from (select :viewer_person_id as person_id) me
) v
