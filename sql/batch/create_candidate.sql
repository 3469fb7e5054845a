-- What rules are asked about, for the length of the plan: a row for each person or household and channel (D16, D17).
-- `yield_mask`: see batch_target; null where no plan was made before.
create temp table candidate (
  household boolean not null,
  subject_id bigint not null,
  contact_point contact_point_kind not null,
  method method not null,
  address text,
  on_mask bigint not null,
  off_mask bigint not null,
  yield_mask bigint
) on commit drop
