-- What rules say no to, for the length of the plan; `reasons` holds only bits that the run names.
create temp table denied (
  rule_no smallint not null,
  household boolean not null,
  subject_id bigint not null,
  contact_point contact_point_kind not null,
  reasons bigint not null,
  because text
) on commit drop
