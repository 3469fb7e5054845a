-- Writes the targets of a run: the channels of {allowed} with anything to do, in chunks of :size people, then of :size
-- households, in key order, with the preferences as they are now (see batch_target).
-- Parameters: district_id, batch_run_id, size
-- Columns: total (people and households to do), unknown (denials of what is no candidate)
with numbered as (
  select a.*, coalesce(p.reasons_on, h.reasons_on) as was_on, coalesce(p.reasons_chosen, h.reasons_chosen) as was_chosen,
    coalesce(p.ctid, h.ctid) as place,
    dense_rank() over (partition by household order by subject_id) - 1 as position
  from ({allowed}) a
  left join preference p on p.district_id = :district_id and not a.household and p.person_id = a.subject_id
    and p.contact_point = a.contact_point and p.method = a.method
  left join household_preference h on h.district_id = :district_id and a.household and h.household_id = a.subject_id
    and h.contact_point = a.contact_point and h.method = a.method
  where on_mask | off_mask | mark_as_chosen <> 0 or on_mask is null -- null: no candidate
),
grouped as materialized (
  select household, position / :size::integer as part, contact_point, method, was_on is null as missing,
    max(position) % :size::integer + 1 as last_position, array_agg(subject_id order by subject_id) as subject_ids,
    array_agg(place order by subject_id) as places,
    packed_masks(array_agg(on_mask order by subject_id), min(on_mask), max(on_mask)) as on_masks,
    packed_masks(array_agg(off_mask order by subject_id), min(off_mask), max(off_mask)) as off_masks,
    packed_masks(array_agg(skip_if_chosen order by subject_id), min(skip_if_chosen), max(skip_if_chosen))
      as skip_if_chosen,
    packed_masks(array_agg(mark_as_chosen order by subject_id), min(mark_as_chosen), max(mark_as_chosen))
      as mark_as_chosen,
    coalesce(packed_masks(array_agg(was_on order by subject_id), min(was_on), max(was_on)), '{0}') as was_on,
    coalesce(packed_masks(array_agg(was_chosen order by subject_id), min(was_chosen), max(was_chosen)), '{0}')
      as was_chosen,
    count(*) filter (where on_mask is null) as unknown
  from numbered
  group by household, position / :size::integer, contact_point, method, was_on is null
),
target as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, missing,
    subjects, subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on, was_chosen)
  select :district_id, :batch_run_id, dense_rank() over (order by household, part),
    household, contact_point, method, missing, max(last_position) over (partition by household, part),
    subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on, was_chosen
  from grouped
  returning chunk, subjects
)
select (select coalesce(sum(subjects), 0) from (select distinct chunk, subjects from target) chunks)::bigint as total,
  (select coalesce(sum(unknown), 0) from grouped)::bigint as unknown
