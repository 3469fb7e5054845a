-- Writes the plan: the channels of {weighed} with anything to do, in chunks of :size people, then of :size households, in
-- key order.
-- Parameters: district_id, batch_run_id, size
-- Columns: total (people and households to do), strays (denials of what is no candidate)
with placed as (
  select w.*, dense_rank() over (partition by household order by subject_id) - 1 as place
  from ({weighed}) w
  where on_mask | off_mask <> 0 or on_mask is null -- null: a stray
),
grouped as materialized (
  select household, place / :size::integer as part, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen,
    max(place) % :size::integer + 1 as last_place, array_agg(subject_id) as subject_ids, count(*) as rows
  from placed
  group by household, place / :size::integer, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen
),
aimed as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method,
    on_mask, off_mask, skip_if_chosen, mark_as_chosen, subjects, subject_ids)
  select :district_id, :batch_run_id, dense_rank() over (order by household, part),
    household, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen,
    max(last_place) over (partition by household, part), subject_ids
  from grouped
  where on_mask is not null
  returning chunk, subjects
)
select (select coalesce(sum(subjects), 0) from (select distinct chunk, subjects from aimed) chunks)::bigint as total,
  (select coalesce(sum(rows), 0) from grouped where on_mask is null)::bigint as strays
