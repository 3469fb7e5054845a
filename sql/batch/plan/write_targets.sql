-- Writes the targets of a run: the channels of {allowed} with anything to do, in chunks of :size people, then of :size
-- households, in key order, with the preferences as they are now, which {current} gives (see batch_target). The rows are
-- sorted once, by what they are grouped by and then by the subject: so every array has its elements in the order of
-- subject_ids, without a sort of its own. The chunks follow those that there are: their number is :chunks.
-- Parameters: district_id, batch_run_id, size, chunks
-- Columns: chunks (how many there are now), total (people and households to do), unknown (denials of what is no candidate)
with numbered as (
  select a.household, subject_id, contact_point, a.method, a.on_mask, a.off_mask, a.skip_if_chosen, a.mark_as_chosen,
    p.reasons_on as was_on, p.reasons_chosen as was_chosen, p.place,
    dense_rank() over (partition by a.household order by subject_id) - 1 as position
  from ({allowed}) a
  left join ({current}) p using (subject_id, contact_point) -- the contact point tells people from households
  where a.on_mask | a.off_mask | a.mark_as_chosen <> 0 or a.on_mask is null -- null: no candidate
),
sorted as (
  select *, position / :size::integer as part, was_on is null as missing
  from numbered
  order by household, part, contact_point, method, missing, subject_id
),
grouped as materialized (
  select household, part, contact_point, method, missing, max(position) % :size::integer + 1 as last_position,
    array_agg(subject_id) as subject_ids, array_agg(place) as places,
    packed_masks(array_agg(on_mask), min(on_mask), max(on_mask)) as on_masks,
    packed_masks(array_agg(off_mask), min(off_mask), max(off_mask)) as off_masks,
    packed_masks(array_agg(skip_if_chosen), min(skip_if_chosen), max(skip_if_chosen)) as skip_if_chosen,
    packed_masks(array_agg(mark_as_chosen), min(mark_as_chosen), max(mark_as_chosen)) as mark_as_chosen,
    coalesce(packed_masks(array_agg(was_on), min(was_on), max(was_on)), '{0}') as was_on,
    coalesce(packed_masks(array_agg(was_chosen), min(was_chosen), max(was_chosen)), '{0}') as was_chosen,
    count(*) filter (where on_mask is null) as unknown
  from sorted
  group by household, part, contact_point, method, missing
),
target as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, missing,
    subjects, subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on, was_chosen)
  select :district_id, :batch_run_id, :chunks::integer + dense_rank() over (order by household, part),
    household, contact_point, method, missing, max(last_position) over (partition by household, part),
    subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on, was_chosen
  from grouped
  returning chunk, subjects
)
select (select coalesce(max(chunk), :chunks::integer) from target) as chunks,
  (select coalesce(sum(subjects), 0) from (select distinct chunk, subjects from target) chunks)::bigint as total,
  (select coalesce(sum(unknown), 0) from grouped)::bigint as unknown
