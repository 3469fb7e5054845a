-- Returns whether a person or household was changed after a revision, and before the one that the asking
-- transaction took. {kind} is 'PERSON' or 'HOUSEHOLD'. Of `=`, unlike of `is not null`, the planner expects few rows: so
-- it takes the index.
-- Parameters: district_id, subject_id, since, mine
-- Columns: changed
select exists (
  select from change
  where district_id = :district_id and subject = {kind} and bucket = bucket_of(:subject_id)
    and revision > :since and revision < coalesce(:mine::bigint, 9223372036854775807)
    and lowest_id <= :subject_id and highest_id >= :subject_id and subject_ids[place_of(subject_ids, :subject_id)] = :subject_id
) as changed
