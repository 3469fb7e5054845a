-- Writes targets of a run (see batch_target): the channels of {decided}, which is batch/decide, each part of which becomes a
-- chunk. The rows are sorted once, by what they are grouped by and then by the subject: so every array has its elements in
-- the order of subject_ids, without a sort of its own. The chunks follow those that there are: their number is :chunks.
-- Parameters: district_id, batch_run_id, household, chunks, state
-- Columns: chunks (how many there are now), total (people and households to do), unknown (denials of what is no candidate)
with sorted as (
  select part, contact_point, method, bucket_of(subject_id) as bucket, position,
    coalesce(turned_on | turned_off | chosen | unchosen, 0) <> 0 as changes, subject_id, place, on_mask, off_mask,
    skip_if_chosen, mark_as_chosen, was_on, was_chosen, leave, turned_on, turned_off, chosen, unchosen
  from ({decided}) d
  order by part, contact_point, changes, bucket, subject_id
),
grouped as materialized (
  select part, contact_point, min(method) as method, changes, bucket, max(position) as last_position, count(*) as channels,
    bit_or(turned_on | turned_off | chosen | unchosen) as reasons,
    array_agg(subject_id) as subject_ids, array_agg(place) as places,
    packed_masks(array_agg(on_mask)) as on_masks, packed_masks(array_agg(off_mask)) as off_masks,
    packed_masks(array_agg(skip_if_chosen)) as skip_if_chosen, packed_masks(array_agg(mark_as_chosen)) as mark_as_chosen,
    coalesce(packed_masks(array_agg(was_on)), '{0}') as was_on,
    coalesce(packed_masks(array_agg(was_chosen)), '{0}') as was_chosen,
    packed_masks(array_agg(leave)) as leave,
    packed_masks(array_agg(turned_on)) as turned_on, packed_masks(array_agg(turned_off)) as turned_off,
    packed_masks(array_agg(chosen)) as chosen, packed_masks(array_agg(unchosen)) as unchosen,
    count(*) filter (where on_mask is null) as unknown
  from sorted
  group by part, contact_point, changes, bucket
),
target as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, bucket, changes, state,
    subjects, channels, reasons, subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on,
    was_chosen, leave, turned_on, turned_off, chosen, unchosen)
  select :district_id, :batch_run_id, :chunks::integer + part + 1, :household, contact_point, method, bucket, changes,
    :state, max(last_position) over (partition by part),
    channels, coalesce(reasons, 0), subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on,
    was_chosen, leave, turned_on, turned_off, chosen, unchosen
  from grouped
  returning chunk, subjects
)
select (select coalesce(max(chunk), :chunks::integer) from target) as chunks,
  (select coalesce(sum(subjects), 0) from (select distinct chunk, subjects from target) chunks)::bigint as total,
  (select coalesce(sum(unknown), 0) from grouped)::bigint as unknown
