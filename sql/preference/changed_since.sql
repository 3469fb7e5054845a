-- Returns whether a person or household was changed after a revision, and before the one that the asking
-- transaction took. {subject} is the column `person_id` or `household_id`.
-- Parameters: district_id, subject_id, since, mine
-- Columns: changed
select exists (
  select from change
  where district_id = :district_id and {subject} = :subject_id
    and revision > :since and revision < coalesce(:mine::bigint, 9223372036854775807)) as changed
