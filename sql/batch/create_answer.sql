-- What the Python check of one rule said no to.
create temp table answer (
  household boolean not null,
  subject_id bigint not null,
  contact_point contact_point_kind not null,
  reasons bigint not null,
  because text
) on commit drop
