-- BatchSample: a few of the people and households that a plan would change.
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, place, household, subject_id, person_id, household_id
select distinct s.batch_run_id, s.place, s.household, s.subject_id,
  case when not s.household then s.subject_id end as person_id,
  case when s.household then s.subject_id end as household_id
from batch_sample s
where s.district_id = :district_id and :viewer_role = 'ADMIN'
