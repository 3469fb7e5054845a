-- Returns whose changes are the history of a person: their own, and those of every household of which they were a
-- member at any time, with them as the member who counts. {parent} is a row of person. A portal user has their own
-- history alone, and of households only those of which they are an active member today (D27).
-- Parameters: district_id, viewer_sees_all, viewer_person_id
-- Columns: subject, subject_id, member_id
select 'PERSON'::subject_kind as subject, {parent}.person_id as subject_id, null::bigint as member_id
where :viewer_sees_all or {parent}.person_id = :viewer_person_id
union all
select distinct 'HOUSEHOLD'::subject_kind, m.household_id, m.person_id
from household_member m
where m.district_id = :district_id and m.person_id = {parent}.person_id
  and (:viewer_sees_all
    or m.person_id = :viewer_person_id and m.household_id in (select household_id from viewer_household where own))
