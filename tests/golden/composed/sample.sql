with changed as (
  select person_id as subject_id, contact_point, method, reasons_on as turned_on, 0::bigint as turned_off,
    reasons_chosen as chosen, 0::bigint as unchosen
  from preference
  where district_id = :district_id and (reasons_on <> 0 or reasons_chosen <> 0)
),
next_revision as (
  select :revision::bigint as revision
)
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,
  turned_on, turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
select :district_id, next_revision.revision, 'PERSON', c.bucket, 'PREFERENCES', c.contact_point, c.method, c.subject_ids,
  c.turned_on, c.turned_off, c.chosen, c.unchosen, c.reasons, c.lowest_id, c.highest_id
from (
  select bucket_of(subject_id) as bucket, contact_point, method, array_agg(subject_id order by subject_id) as subject_ids,
    packed_masks(array_agg(turned_on order by subject_id)) as turned_on,
    packed_masks(array_agg(turned_off order by subject_id)) as turned_off,
    packed_masks(array_agg(chosen order by subject_id)) as chosen,
    packed_masks(array_agg(unchosen order by subject_id)) as unchosen,
    bit_or(turned_on | turned_off | chosen | unchosen) as reasons, min(subject_id) as lowest_id,
    max(subject_id) as highest_id
  from changed
  group by bucket_of(subject_id), contact_point, method
) c
cross join next_revision;

with changed as (
  select household_id as subject_id, contact_point, method, reasons_on as turned_on, 0::bigint as turned_off,
    reasons_chosen as chosen, 0::bigint as unchosen
  from household_preference
  where district_id = :district_id and (reasons_on <> 0 or reasons_chosen <> 0)
),
next_revision as (
  select :revision::bigint as revision
)
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,
  turned_on, turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
select :district_id, next_revision.revision, 'HOUSEHOLD', c.bucket, 'PREFERENCES', c.contact_point, c.method, c.subject_ids,
  c.turned_on, c.turned_off, c.chosen, c.unchosen, c.reasons, c.lowest_id, c.highest_id
from (
  select bucket_of(subject_id) as bucket, contact_point, method, array_agg(subject_id order by subject_id) as subject_ids,
    packed_masks(array_agg(turned_on order by subject_id)) as turned_on,
    packed_masks(array_agg(turned_off order by subject_id)) as turned_off,
    packed_masks(array_agg(chosen order by subject_id)) as chosen,
    packed_masks(array_agg(unchosen order by subject_id)) as unchosen,
    bit_or(turned_on | turned_off | chosen | unchosen) as reasons, min(subject_id) as lowest_id,
    max(subject_id) as highest_id
  from changed
  group by bucket_of(subject_id), contact_point, method
) c
cross join next_revision;

