-- Writes the targets of a run: the channels of {allowed} with anything to do, in chunks of :size people, then of :size
-- households, in key order.
-- Parameters: district_id, batch_run_id, size
-- Columns: total (people and households to do), unknown (denials of what is no candidate)
with numbered as (
  select a.*, dense_rank() over (partition by household order by subject_id) - 1 as position
  from ({allowed}) a
  where on_mask | off_mask <> 0 or on_mask is null -- null: no candidate
),
grouped as materialized (
  select household, position / :size::integer as part, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen,
    max(position) % :size::integer + 1 as last_position, array_agg(subject_id) as subject_ids, count(*) as rows
  from numbered
  group by household, position / :size::integer, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen
),
target as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method,
    on_mask, off_mask, skip_if_chosen, mark_as_chosen, subjects, subject_ids)
  select :district_id, :batch_run_id, dense_rank() over (order by household, part),
    household, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen,
    max(last_position) over (partition by household, part), subject_ids
  from grouped
  where on_mask is not null
  returning chunk, subjects
)
select (select coalesce(sum(subjects), 0) from (select distinct chunk, subjects from target) chunks)::bigint as total,
  (select coalesce(sum(rows), 0) from grouped where on_mask is null)::bigint as unknown
