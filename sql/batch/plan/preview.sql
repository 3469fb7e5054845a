-- Writes a plan that is only looked at, and tells what it would do. {predicted} goes into blocks, which are made into
-- chunks when the plan is applied; a few people and households whom it would change become samples, taken from every
-- block; the households that it would change go into `preview_household`.
-- Parameters: district_id, batch_run_id, samples
-- Columns: contact_point, asked (null: denials of what is no candidate), flipped, overwrote, kept, skipped_as_chosen, rows, total (people and households in all)
with block as materialized (
  select row_number() over () as block, household, contact_point, min(method) as method, on_mask, off_mask, skip_if_chosen,
    flipped, kept, array_agg(subject_id order by subject_id) as subject_ids, count(*) as rows
  from ({predicted}) predicted
  group by household, contact_point, on_mask, off_mask, skip_if_chosen, flipped, kept
),
target as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, bucket,
    changes, on_masks, off_masks, skip_if_chosen, subjects, channels, subject_ids)
  select :district_id, :batch_run_id, -block, household, contact_point, method, 0, flipped <> 0,
    array[on_mask], array[off_mask], array[skip_if_chosen], rows, rows, subject_ids
  from block where on_mask is not null
),
home as (
  insert into preview_household (household_id, reasons)
  select s.subject_id, flipped
  from block cross join lateral unnest(subject_ids) as s (subject_id)
  where household and flipped <> 0
),
picked as (
  select household, subject_id, row_number() over (order by hashint8(subject_id), household) as place
  from (
    select household, subject_ids[1 + n * rows / :samples] as subject_id
    from block cross join generate_series(0, :samples::integer - 1) as n
    where flipped <> 0
    group by 1, 2
    order by hashint8(subject_ids[1 + n * rows / :samples]), household
    limit :samples
  ) few
),
sample as (
  insert into batch_sample
    (district_id, batch_run_id, place, household, subject_id, contact_point, turned_on, turned_off)
  select :district_id, :batch_run_id, picked.place, picked.household, picked.subject_id, block.contact_point,
    block.flipped & block.on_mask, block.flipped & block.off_mask
  from block
  cross join lateral unnest(block.subject_ids) as s (subject_id)
  join picked on picked.household = block.household and picked.subject_id = s.subject_id
  where block.flipped <> 0
)
select contact_point, on_mask | off_mask as asked, flipped, flipped & ~skip_if_chosen as overwrote, kept,
  0::bigint as skipped_as_chosen, sum(rows)::bigint as rows,
  (
    select count(*)
    from (
      select distinct s.subject_id from block cross join lateral unnest(subject_ids) as s (subject_id) where not household
    ) people
  ) + (select coalesce(sum(rows), 0) from block where household)::bigint as total -- a household has one contact point
from block
group by 1, 2, 3, 4, 5
