-- Writes a plan that is to be looked at first, and says what it would do: {decided}, into blocks that are made into chunks
-- when it is applied, with a few of those whom it would change, spread over all.
-- Parameters: district_id, batch_run_id, samples
-- Columns: contact_point, asked (null: denials of what is no candidate), flipped, overwrote, kept, yielded, rows, total (people and households in all)
with decided as materialized (
  {decided}
),
block as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method,
    on_mask, off_mask, yield_mask, subjects, subject_ids)
  select :district_id, :batch_run_id, 0, bool_or(household), contact_point, min(method), on_mask, off_mask, yields,
    count(*), array_agg(subject_id)
  from (
    select *, (on_mask | off_mask) & ~reasons_chosen as yields from decided where on_mask is not null
  ) d
  group by contact_point, on_mask, off_mask, yields
),
subject as materialized (
  select household, subject_id, bool_or(flipped <> 0) as touched from decided group by household, subject_id
),
sampled as (
  select household, subject_id, row_number() over (order by spread, household) as place
  from (
    select household, subject_id, hashint8(subject_id) as spread
    from subject where touched
    order by spread, household
    limit :samples
  ) few
),
sample as (
  insert into batch_sample
    (district_id, batch_run_id, place, household, subject_id, contact_point, turned_on, turned_off)
  select :district_id, :batch_run_id, s.place, s.household, s.subject_id, d.contact_point,
    d.flipped & d.on_mask, d.flipped & d.off_mask
  from sampled s
  join decided d using (household, subject_id)
  where d.flipped <> 0
)
select contact_point, on_mask | off_mask as asked, flipped, flipped & reasons_chosen as overwrote, kept,
  0::bigint as yielded, count(*) as rows, (select count(*) from subject) as total
from decided
group by 1, 2, 3, 4, 5
