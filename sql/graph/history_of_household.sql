-- Returns the household whose changes are the history of a household. {parent} is a row of household. A portal user
-- has the histories of those households of which they are an active member today, and is the member who counts (D27).
-- Parameters: viewer_sees_all, viewer_person_id
-- Columns: subject, subject_id, member_id
select 'HOUSEHOLD'::subject_kind as subject, {parent}.household_id as subject_id,
  case when not :viewer_sees_all then :viewer_person_id end as member_id
where :viewer_sees_all or {parent}.household_id in (select household_id from viewer_household where own)
