-- What a revert finds in the log of the run that it undoes, for the length of its plan: a row for each channel changed.
-- `touched`: the bits that somebody has changed since.
create temp table undone (
  household boolean not null,
  subject_id bigint not null,
  contact_point contact_point_kind not null,
  method method not null,
  turned_on bigint not null,
  turned_off bigint not null,
  unchosen bigint not null,
  touched bigint not null
) on commit drop
