-- The channels that a run names of all whom it selects, for the length of the plan: a row for each person or household and
-- contact point (D16, D17). `skip_if_chosen`: see batch_target; null where no plan was made before. `barred_by`: the number
-- of the rule that bars the channel as a whole.
create temp table gathered (
  household boolean not null,
  subject_id bigint not null,
  contact_point contact_point_kind not null,
  method method not null,
  address text,
  on_mask bigint not null,
  off_mask bigint not null,
  skip_if_chosen bigint,
  barred_by smallint
) on commit drop
