-- Logs changes of preferences under one revision (D28): the {log} of the statements that write them. It reads their
-- CTEs: `changed`, with each channel of a person or household once, and `next_revision`, which has no row where
-- nothing changed. {kind} is 'PERSON' or 'HOUSEHOLD'.
-- Parameters: district_id
-- Columns: none
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,
  turned_on, turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
select :district_id, next_revision.revision, {kind}, c.bucket, 'PREFERENCES', c.contact_point, c.method, c.subject_ids,
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
cross join next_revision
